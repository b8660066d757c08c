/* SPDX-License-Identifier: Apache-2.0 */
/* kb_backup: the store is copied, the indexes are made anew by whoever opens the copy; see kb.h. */
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "kb_impl.h"

int kb_backup(struct kb *kb, const char *dir, struct err *err)
{
    CLEANUP(freep) char *store = str_printf("%s/store", dir);
    struct err ignored;

    if (store == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a backup");
    if (file_exists(dir))
        return err_set(err, ERR_CONFLICT, "'%s' exists already; a backup needs a new folder", dir);
    if (file_mkdirs(dir, err) != 0)
        return -1;
    if (store_copy(kb->store, store, err) == 0)
        return 0;
    (void)file_rmtree(dir, &ignored); /* half a backup is none */
    return err_ctx(err, "backup to '%s'", dir);
}
