/* SPDX-License-Identifier: Apache-2.0 */
/* Whole files and folders, with errors as sentences. Every descriptor is close-on-exec. Thread:
 * worker, blocks. */
#ifndef KS_BASE_FILE_H
#define KS_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

/* Appends the whole file to `out`, whose cap bounds it. ERR_NOT_FOUND, ERR_IO, ERR_LIMIT. */
int file_read(const char *path, struct buf *out, struct err *err);
/* Appends everything up to end of file. ERR_IO, ERR_LIMIT. */
int file_read_fd(int fd, struct buf *out, struct err *err);
/* Writes a temporary beside `path`, syncs it, renames it over `path`: all or nothing. ERR_IO. */
int file_write_atomic(const char *path, const void *data, size_t len, struct err *err);
/* Makes what was renamed, made or deleted in the folder durable. ERR_IO. */
int file_sync_dir(const char *path, struct err *err);
/* Plain write of a new or truncated file; no sync. ERR_IO. */
int file_write(const char *path, const void *data, size_t len, unsigned mode, struct err *err);
/* Makes the folder and its parents, mode 0700 for what is new. ERR_IO. */
int file_mkdirs(const char *path, struct err *err);
/* Deletes a folder with all in it; a missing one is fine. Never follows links. ERR_IO. */
int file_rmtree(const char *path, struct err *err);
bool file_exists(const char *path);
bool file_is_dir(const char *path);
/* Writes all bytes, resuming after short writes. ERR_IO. */
int file_write_all(int fd, const void *data, size_t len, struct err *err);

#endif
