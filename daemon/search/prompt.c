/* SPDX-License-Identifier: Apache-2.0 */
/* Templates and sections put together; see prompt.h. */
#include "search/prompt.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "llm/llm.h"
#include "search/plan_answer.h"
#include "search/prompt_files.h"
#include "search/prompt_impl.h"
#include "search/template.h"

/* ---- Sections ---- */

/* Name and budget in bytes (0: never cut), and who makes it. */
#define SECTION_MAP(X)                                                                             \
    X(task, 60000)                                                                                 \
    X(reference, 24000)                                                                            \
    X(objective, 6000)                                                                             \
    X(abi, 12000)                                                                                  \
    X(device, 6000)                                                                                \
    X(grammar, 16000)                                                                              \
    X(schema, 0)                                                                                   \
    X(seed, 100000)                                                                                \
    X(seed_result, 6000)                                                                           \
    X(status, 3000)                                                                                \
    X(need, 1200)                                                                                  \
    X(choosing, 1600)                                                                              \
    X(flat, 600)                                                                                   \
    X(summary, 5000)                                                                               \
    X(questions, 4000)                                                                             \
    X(tree, 24000)                                                                                 \
    X(path, 10000)                                                                                 \
    X(action, 0)                                                                                   \
    X(outcome, 2000)                                                                               \
    X(current, 280000)                                                                             \
    X(result, 10000)                                                                               \
    X(tuning, 3000)                                                                                \
    X(base, 32000)                                                                                 \
    X(base_result, 4000)                                                                           \
    X(lineage, 3000)                                                                               \
    X(best, 32000)                                                                                 \
    X(best_result, 6000)                                                                           \
    X(parents, 80000)                                                                              \
    X(rejected, 4000)                                                                              \
    X(cycle, 1600)                                                                                 \
    X(tuning_cost, 600)                                                                            \
    X(spent, 400)                                                                                  \
    X(history, 6000)                                                                               \
    X(node_failures, 4000)                                                                         \
    X(failures, 4000)                                                                              \
    X(calibration, 1600)                                                                           \
    X(insights, 8000)                                                                              \
    X(sample, 400)                                                                                 \
    X(previous, 40000)                                                                             \
    X(errors, 0)

enum section {
#define X(name, budget) SECTION_##name,
    SECTION_MAP(X)
#undef X
        SECTION_COUNT
};

static const struct template_name section_names[SECTION_COUNT] = {
#define X(name, budget) { #name, budget },
    SECTION_MAP(X)
#undef X
};

static section_fn *const section_fns[SECTION_COUNT] = {
#define X(name, budget) section_##name,
    SECTION_MAP(X)
#undef X
};

/* ---- Files ---- */

/* The files of a set: the kinds of calls by their names, and four more. */
enum {
    FILE_SYSTEM = CALL_KIND_COUNT,
    FILE_PREFIX,
    FILE_REPAIR_PLAN,
    FILE_REPAIR_PROGRAM,
    FILE_COUNT
};

struct prompts {
    struct template *files[FILE_COUNT];
};

static const char *file_name(int i, char *out, size_t size)
{
    static const char *const more[] = { "system", "prefix", "repair_plan", "repair_program" };

    snprintf(out, size, "%s.md",
             i < CALL_KIND_COUNT ? call_kind_name(i) : more[i - CALL_KIND_COUNT]);
    return out;
}

static const struct prompt_file *built_in(const char *name)
{
    for (size_t i = 0; i < prompt_files_n; i++)
        if (strcmp(prompt_files[i].name, name) == 0)
            return &prompt_files[i];
    return NULL;
}

/* A misspelt name would be an override that never speaks. */
static int check_folder(const char *dir, struct err *err)
{
    DIR *d = opendir(dir);
    const struct dirent *e;
    int rc = 0;

    if (d == NULL)
        return err_set(err, file_exists(dir) ? ERR_IO : ERR_NOT_FOUND,
                       "the folder of prompts '%s' cannot be read", dir);
    while (rc == 0 && (e = readdir(d)) != NULL) {
        bool known = e->d_name[0] == '.' || !str_has_suffix(e->d_name, ".md");
        char name[40];

        for (int i = 0; i < FILE_COUNT && !known; i++)
            known = strcmp(e->d_name, file_name(i, name, sizeof(name))) == 0;
        if (!known)
            rc = err_set(err, ERR_INVALID,
                         "'%s/%s' is no prompt; allowed are system.md, prefix.md, repair_plan.md, "
                         "repair_program.md and NAME.md of the kinds of calls",
                         dir, e->d_name);
    }
    closedir(d);
    return rc;
}

static int load_file(const char *dir, int i, struct template **out, struct err *err)
{
    char name[40];
    const struct prompt_file *own = built_in(file_name(i, name, sizeof(name)));
    CLEANUP(freep) char *path = dir != NULL ? str_printf("%s/%s", dir, name) : NULL;
    CLEANUP(buf_release) struct buf text = { .max = TEMPLATE_BYTES_MAX };

    if (path == NULL || !file_exists(path)) {
        if (own == NULL)
            return err_set(err, ERR_INTERNAL, "the prompt '%s' was not built in", name);
        return template_parse(name, own->text, own->len, section_names, SECTION_COUNT, out, err);
    }
    if (file_read(path, &text, err) != 0)
        return -1;
    return template_parse(path, buf_str(&text), text.len, section_names, SECTION_COUNT, out, err);
}

/* What never changes during a search must not look at what does. */
static bool is_constant(enum section i)
{
    return i == SECTION_task || i == SECTION_reference || i == SECTION_objective ||
           i == SECTION_abi || i == SECTION_device || i == SECTION_grammar || i == SECTION_seed;
}

/* System text and prefix may use what is constant alone: a user's file that does otherwise would
 * send the whole prompt anew with every call. */
static int check_constant(const struct template *t, const char *file, struct err *err)
{
    for (int i = 0; i < SECTION_COUNT; i++)
        if (template_uses(t, (size_t)i) && !is_constant((enum section)i))
            return err_set(err, ERR_INVALID,
                           "%s uses the section '%s', which changes during a search", file,
                           section_names[i].name);
    return 0;
}

int prompts_load(const char *dir, struct prompts **out, struct err *err)
{
    struct prompts *p;

    if (dir != NULL && dir[0] == '\0')
        dir = NULL;
    if (dir != NULL && check_folder(dir, err) != 0)
        return -1;
    p = xcalloc(1, sizeof(*p));
    for (int i = 0; i < FILE_COUNT; i++)
        if (load_file(dir, i, &p->files[i], err) != 0) {
            prompts_free(p);
            return -1;
        }
    if (check_constant(p->files[FILE_SYSTEM], "system.md", err) != 0 ||
        check_constant(p->files[FILE_PREFIX], "prefix.md", err) != 0) {
        prompts_free(p);
        return -1;
    }
    *out = p;
    return 0;
}

void prompts_free(struct prompts *p)
{
    if (p == NULL)
        return;
    for (int i = 0; i < FILE_COUNT; i++)
        template_free(p->files[i]);
    free(p);
}

int prompts_export(const char *dir, struct err *err)
{
    for (size_t i = 0; i < prompt_files_n; i++) {
        CLEANUP(freep) char *path = str_printf("%s/%s", dir, prompt_files[i].name);

        if (file_exists(path))
            return err_set(err, ERR_CONFLICT, "'%s' is there already; nothing was written", path);
    }
    if (file_mkdirs(dir, err) != 0)
        return -1;
    for (size_t i = 0; i < prompt_files_n; i++) {
        CLEANUP(freep) char *path = str_printf("%s/%s", dir, prompt_files[i].name);

        if (file_write(path, prompt_files[i].text, prompt_files[i].len, 0644, err) != 0)
            return -1;
    }
    return 0;
}

/* ---- What a call is about ---- */

/* The trial whose program a finished cycle is told of. */
static const struct trial *ended_with(const struct search *s, const struct lane *l)
{
    return search_trial(s, l->best != 0 ? l->best : l->ended);
}

static void view_programs(struct prompt_view *v)
{
    const struct search *s = v->s;
    const struct trial *champion = search_trial(s, s->champion), *ended;

    v->current = v->base = PROGRAM_NONE;
    v->best = champion != NULL ? champion->program : PROGRAM_NONE;
    if (v->lane == NULL || v->ask->kind == CALL_SAMPLE)
        return;
    v->base = v->lane->base;
    v->current = lane_current(s, v->lane);
    v->result = view_trial_of(v, v->current);
    ended = v->ask->kind == CALL_REFINE ? ended_with(s, v->lane) : NULL;
    if (ended != NULL) {
        v->current = ended->program;
        v->result = ended;
    }
}

static int view_make(const struct prompts *p, const struct search *s, const struct prompt_ask *ask,
                     const json_t *schema, struct prompt_view *out, struct err *err)
{
    *out = (struct prompt_view){
        .s = s, .ask = ask, .brief = s->scope.brief, .schema = schema, .node = WORLD_NONE
    };
    out->seed_in_prefix = template_uses(p->files[FILE_PREFIX], SECTION_seed);
    out->base_whole = template_uses(p->files[ask->kind], SECTION_base);
    out->base_measured = template_uses(p->files[ask->kind], SECTION_base_result);
    if (ask->lane >= LANES_MAX)
        return err_set(err, ERR_INTERNAL, "a prompt was asked for lane %d", ask->lane);
    if (ask->lane >= 0) {
        out->lane = &s->lanes[ask->lane];
        out->node = world_find(s->world, out->lane->node);
        if (out->node == WORLD_NONE)
            return err_set(err, ERR_CORRUPT, "lane %d is about the node '%s', which is not there",
                           ask->lane, out->lane->node);
    }
    view_programs(out);
    return 0;
}

/* ---- Filling in ---- */

/* Adds what went in to {section: bytes}. */
static void count_bytes(json_t *sections, const char *name, size_t bytes)
{
    json_int_t before = json_integer_value(json_object_get(sections, name));

    json_object_set_new(sections, name, json_integer(before + (json_int_t)bytes));
}

static int fill(const struct template *t, const struct prompt_view *v, struct buf *out,
                json_t *sections, struct err *err)
{
    struct buf texts[SECTION_COUNT] = { 0 };
    struct template_value values[SECTION_COUNT] = { 0 };
    size_t before = out->len, inserted = 0;
    int rc = 0;

    for (int i = 0; i < SECTION_COUNT && rc == 0; i++) {
        if (!template_uses(t, (size_t)i))
            continue;
        texts[i].max = 2 * LLM_PROMPT_MAX;
        rc = section_fns[i](v, template_budget(t, (size_t)i), &texts[i], err);
        /* Templates put names on lines of their own: the text's last line end is theirs. */
        while (rc == 0 && texts[i].len > 0 && texts[i].data[texts[i].len - 1] == '\n')
            texts[i].data[--texts[i].len] = '\0';
        values[i] = (struct template_value){ .text = texts[i].data, .len = texts[i].len };
        if (rc == 0 && texts[i].len > 0)
            count_bytes(sections, section_names[i].name, texts[i].len);
        inserted += texts[i].len;
    }
    if (rc == 0)
        rc = template_render(t, values, out, err);
    if (rc == 0)
        count_bytes(sections, "template",
                    out->len - before > inserted ? out->len - before - inserted : 0);
    for (int i = 0; i < SECTION_COUNT; i++)
        buf_release(&texts[i]);
    return rc;
}

static int fill_text(const struct template *const *files, size_t n, const struct prompt_view *v,
                     char **out, json_t *sections, struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = 4 * LLM_PROMPT_MAX };

    for (size_t i = 0; i < n; i++) {
        if (i > 0 && buf_adds(&text, "\n", err) != 0)
            return -1;
        if (fill(files[i], v, &text, sections, err) != 0)
            return -1;
    }
    *out = buf_take(&text);
    return 0;
}

void prompt_release(struct prompt *p)
{
    free(p->system);
    free(p->prefix);
    free(p->text);
    json_decref(p->schema);
    json_decref(p->sections);
    *p = (struct prompt){ 0 };
}

static int make(const struct prompts *p, const struct search *s, const struct prompt_ask *ask,
                struct prompt *out, struct err *err)
{
    const struct template *call[2] = {
        p->files[ask->kind],
        p->files[call_writes(ask->kind) ? FILE_REPAIR_PROGRAM : FILE_REPAIR_PLAN]
    };
    const struct template *const *files = call;
    struct prompt_view v;
    size_t bytes;

    if (view_make(p, s, ask, out->schema, &v, err) != 0 ||
        fill_text((const struct template *const *)&p->files[FILE_SYSTEM], 1, &v, &out->system,
                  out->sections, err) != 0 ||
        fill_text((const struct template *const *)&p->files[FILE_PREFIX], 1, &v, &out->prefix,
                  out->sections, err) != 0 ||
        fill_text(files, ask->attempt > 1 ? 2 : 1, &v, &out->text, out->sections, err) != 0)
        return -1;
    bytes = strlen(out->system) + strlen(out->prefix) + strlen(out->text);
    if (bytes > LLM_PROMPT_MAX)
        return err_set(err, ERR_LIMIT, "the prompt '%s' has %zu bytes; at most %d are allowed",
                       call_kind_name(ask->kind), bytes, LLM_PROMPT_MAX);
    return 0;
}

int prompt_make(const struct prompts *p, const struct search *s, const struct prompt_ask *ask,
                struct prompt *out, struct err *err)
{
    struct prompt made = { .sections = json_object() };

    if (!call_writes(ask->kind))
        made.schema = plan_answer_schema(ask->kind, &made.schema_name);
    if (make(p, s, ask, &made, err) != 0) {
        prompt_release(&made);
        return -1;
    }
    *out = made;
    return 0;
}
