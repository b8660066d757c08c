/* SPDX-License-Identifier: Apache-2.0 */
/* Prefix words and a scheduler's sentences; see launcher_command.h. */
#include "eval/launcher_command.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"

/* ---- Words ---- */

enum { WORD_MAX = 4096 };

/* One word from *at on, which is not blank; moves *at behind it. */
static int take_word(const char **at, char **out, struct err *err)
{
    CLEANUP(buf_release) struct buf word = { .max = WORD_MAX };
    char quote = 0;
    const char *p;

    for (p = *at; *p && (quote || !isspace((unsigned char)*p)); p++) {
        if (quote ? *p == quote : (*p == '\'' || *p == '"')) {
            quote = quote ? 0 : *p;
            continue;
        }
        if (*p == '\\' && quote != '\'' && p[1] != '\0')
            p++;
        if (buf_add(&word, p, 1, err) != 0)
            return err_ctx(err, "a word");
    }
    if (quote)
        return err_set(err, ERR_INVALID, "a quote %c is open", quote);
    *at = p;
    *out = xstrdup(buf_str(&word));
    return 0;
}

int command_words(const char *line, char ***out, struct err *err)
{
    char **words = xcalloc(COMMAND_WORDS_MAX + 1, sizeof(*words));
    size_t n = 0;

    for (const char *p = line;;) {
        while (isspace((unsigned char)*p))
            p++;
        if (*p == '\0')
            break;
        if (n == COMMAND_WORDS_MAX) {
            command_words_free(words);
            return err_set(err, ERR_LIMIT, "there are more than %d words", COMMAND_WORDS_MAX);
        }
        if (take_word(&p, &words[n], err) != 0) {
            command_words_free(words);
            return -1;
        }
        n++;
    }
    if (n == 0) {
        command_words_free(words);
        return err_set(err, ERR_INVALID, "there is no word");
    }
    *out = words;
    return 0;
}

void command_words_free(char **words)
{
    for (size_t i = 0; words && words[i]; i++)
        free(words[i]);
    free(words);
}

/* ---- Environment ---- */

static void environment_pass(char **env, size_t *n, const char *name)
{
    const char *value = getenv(name);

    if (value && (env[*n] = str_printf("%s=%s", name, value)) != NULL)
        (*n)++;
}

char **command_environment(const char *const *more)
{
    static const char *const passed[] = { "PATH", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_HOME",
                                          "CUDA_VISIBLE_DEVICES" };
    size_t n = 0, n_more = 0;
    char **env;

    while (more && more[n_more])
        n_more++;
    env = xcalloc(ARRAY_LEN(passed) + n_more + 3, sizeof(char *));
    for (size_t i = 0; i < ARRAY_LEN(passed); i++)
        environment_pass(env, &n, passed[i]);
    for (size_t i = 0; i < n_more; i++)
        environment_pass(env, &n, more[i]);
    if (getenv("PATH") == NULL)
        env[n++] = xstrdup("PATH=/usr/local/bin:/usr/bin:/bin");
    env[n] = xstrdup("LC_ALL=C");
    return env;
}

/* ---- Failures ---- */

static const struct {
    const char *needle;
    enum command_failure failure;
} rules[] = {
    /* Slurm: srun and slurmstepd write these; the time limit's line also says CANCELLED */
    { "DUE TO TIME LIMIT", COMMAND_FAILURE_LIMIT },
    { "DUE TO PREEMPTION", COMMAND_FAILURE_PREEMPT },
    { "DUE TO NODE FAILURE", COMMAND_FAILURE_NODE },
    { "Node failure on", COMMAND_FAILURE_NODE },
    { "oom_kill event", COMMAND_FAILURE_MEMORY },
    { "oom-kill event", COMMAND_FAILURE_MEMORY },
    { "Unable to allocate resources", COMMAND_FAILURE_ASK },
    { "Unable to contact slurm controller", COMMAND_FAILURE_ASK },
    { "Job allocation", COMMAND_FAILURE_ASK }, /* "... has been revoked" */
    /* ssh */
    { "ssh: connect to host", COMMAND_FAILURE_ASK },
    { "Connection closed by remote host", COMMAND_FAILURE_NODE },
    { "client_loop: send disconnect", COMMAND_FAILURE_NODE },
};

enum command_failure command_failure_of(const char *stderr_text)
{
    for (const char *line = stderr_text; *line;) {
        size_t len = strcspn(line, "\n");

        for (size_t i = 0; i < ARRAY_LEN(rules); i++)
            if (memmem(line, len, rules[i].needle, strlen(rules[i].needle)) != NULL)
                return rules[i].failure;
        line += len + (line[len] == '\n');
    }
    return COMMAND_FAILURE_NONE;
}

const char *command_failure_text(enum command_failure f)
{
    switch (f) {
    case COMMAND_FAILURE_NODE:
        return "the node failed while the evaluation ran";
    case COMMAND_FAILURE_PREEMPT:
        return "another job took the evaluation's place";
    case COMMAND_FAILURE_LIMIT:
        return "the scheduler ended the evaluation at its time limit";
    case COMMAND_FAILURE_MEMORY:
        return "the scheduler ended the evaluation at its memory limit";
    case COMMAND_FAILURE_ASK:
        return "the command got no place to run the evaluation";
    case COMMAND_FAILURE_NONE:
    case COMMAND_FAILURE_COUNT:
        break;
    }
    return NULL;
}

unsigned command_failure_retries(const struct command_retries *r, enum command_failure f)
{
    switch (f) {
    case COMMAND_FAILURE_NODE:
    case COMMAND_FAILURE_PREEMPT:
    case COMMAND_FAILURE_ASK:
        return r->node;
    case COMMAND_FAILURE_LIMIT:
        return r->limit;
    case COMMAND_FAILURE_NONE:
    case COMMAND_FAILURE_MEMORY:
    case COMMAND_FAILURE_COUNT:
        break;
    }
    return 0;
}
