/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a shared object; see object.h. */
#include "object.h"

#include <elf.h>

#include "base/mem.h"

#define SECTIONS_MAX 4096
#define SEGMENTS_MAX 64
#define SYMBOLS_MAX 65536
#define FUNCTIONS_MAX 4096

struct object {
    const uint8_t *data;
    size_t len;
    Elf64_Ehdr head;
};

/* True when [at, at + n) lies within the object. */
static bool within(const struct object *o, uint64_t at, uint64_t n)
{
    return at <= o->len && n <= o->len - at;
}

static bool open_object(const void *data, size_t len, struct object *o)
{
    *o = (struct object){ .data = data, .len = len };
    if (!within(o, 0, sizeof(o->head)))
        return false;
    memcpy(&o->head, data, sizeof(o->head));
    return memcmp(o->head.e_ident, ELFMAG, SELFMAG) == 0 &&
           o->head.e_ident[EI_CLASS] == ELFCLASS64 && o->head.e_ident[EI_DATA] == ELFDATA2LSB &&
           o->head.e_phentsize == sizeof(Elf64_Phdr) && o->head.e_phnum > 0 &&
           o->head.e_phnum <= SEGMENTS_MAX &&
           within(o, o->head.e_phoff, (uint64_t)o->head.e_phnum * sizeof(Elf64_Phdr));
}

static bool has_sections(const struct object *o)
{
    return o->head.e_shentsize == sizeof(Elf64_Shdr) && o->head.e_shnum > 0 &&
           o->head.e_shnum <= SECTIONS_MAX &&
           within(o, o->head.e_shoff, (uint64_t)o->head.e_shnum * sizeof(Elf64_Shdr));
}

static Elf64_Shdr section(const struct object *o, unsigned i)
{
    Elf64_Shdr s;

    memcpy(&s, o->data + o->head.e_shoff + i * sizeof(s), sizeof(s));
    return s;
}

static Elf64_Phdr segment(const struct object *o, unsigned i)
{
    Elf64_Phdr p;

    memcpy(&p, o->data + o->head.e_phoff + i * sizeof(p), sizeof(p));
    return p;
}

/* ---- sizes ---- */

static void add_section(const struct object *o, const Elf64_Shdr *s, struct object_size *out)
{
    if (!(s->sh_flags & SHF_ALLOC) || (s->sh_flags & SHF_TLS))
        return;
    if (s->sh_type == SHT_NOBITS)
        out->bss += MIN(s->sh_size, (uint64_t)1 << 48);
    else if (!within(o, s->sh_offset, s->sh_size))
        return;
    else if (s->sh_flags & SHF_WRITE)
        out->data += s->sh_size;
    else
        out->text += s->sh_size;
}

struct range {
    uint64_t at, size;
};

static int by_place(const void *a, const void *b)
{
    const struct range *x = a, *y = b;

    return x->at != y->at ? (x->at > y->at) - (x->at < y->at)
                          : (x->size > y->size) - (x->size < y->size);
}

/* Functions may share bytes (aliases): each byte counts once. */
static uint64_t covered(struct range *r, size_t n)
{
    uint64_t sum = 0, end = 0;

    qsort(r, n, sizeof(*r), by_place);
    for (size_t i = 0; i < n; i++) {
        uint64_t to = r[i].at + r[i].size;

        if (to > end)
            sum += to - MAX(end, r[i].at);
        end = MAX(end, to);
    }
    return sum;
}

/* Sizes of the defined functions in one symbol table. The start-up files' have none. */
static uint64_t functions_size(const struct object *o, const Elf64_Shdr *table)
{
    struct range *r;
    size_t n = 0, symbols = table->sh_size / sizeof(Elf64_Sym);
    uint64_t sum;

    if (table->sh_entsize != sizeof(Elf64_Sym) || !within(o, table->sh_offset, table->sh_size))
        return 0;
    r = calloc(FUNCTIONS_MAX, sizeof(*r));
    for (size_t i = 0; r && i < MIN(symbols, (size_t)SYMBOLS_MAX) && n < FUNCTIONS_MAX; i++) {
        Elf64_Sym sym;

        memcpy(&sym, o->data + table->sh_offset + i * sizeof(sym), sizeof(sym));
        if (ELF64_ST_TYPE(sym.st_info) == STT_FUNC && sym.st_shndx != SHN_UNDEF &&
            sym.st_size > 0 && sym.st_size <= o->len && sym.st_value <= UINT64_MAX - sym.st_size)
            r[n++] = (struct range){ sym.st_value, sym.st_size };
    }
    sum = r ? covered(r, n) : 0;
    free(r);
    return sum;
}

bool object_measure(const void *data, size_t len, struct object_size *out)
{
    struct object o;

    *out = (struct object_size){ 0 };
    if (!open_object(data, len, &o) || !has_sections(&o))
        return false;
    for (unsigned i = 0; i < o.head.e_shnum; i++) {
        Elf64_Shdr s = section(&o, i);

        add_section(&o, &s, out);
        if (s.sh_type == SHT_SYMTAB)
            out->kernel_text = functions_size(&o, &s);
    }
    out->kernel_text = MIN(out->kernel_text, out->text);
    return true;
}

/* ---- digest ---- */

/* The ELF header as the loader looks at it. */
static Elf64_Ehdr loaded_head(const struct object *o)
{
    Elf64_Ehdr h = o->head;

    h.e_shoff = 0;
    h.e_shnum = 0;
    h.e_shstrndx = 0;
    return h;
}

static bool add_segment(struct sha256 *h, const struct object *o, const Elf64_Phdr *p)
{
    Elf64_Ehdr head = loaded_head(o);
    uint64_t at = p->p_offset, n = p->p_filesz;

    if (!within(o, at, n))
        return false;
    if (at < sizeof(head)) {
        uint64_t shared = MIN(sizeof(head) - at, n);

        sha256_add(h, (const uint8_t *)&head + at, (size_t)shared);
        at += shared;
        n -= shared;
    }
    sha256_add(h, o->data + at, (size_t)n);
    return true;
}

bool object_digest(const void *data, size_t len, char out[SHA256_HEX + 1])
{
    struct sha256 h;
    struct object o;

    if (!open_object(data, len, &o))
        return false;
    sha256_init(&h);
    for (unsigned i = 0; i < o.head.e_phnum; i++) {
        Elf64_Phdr p = segment(&o, i);

        sha256_add(&h, &p, sizeof(p));
        if (p.p_type == PT_LOAD && !add_segment(&h, &o, &p))
            return false;
    }
    sha256_hex(&h, out);
    return true;
}
