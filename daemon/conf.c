/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration; see conf.h. inih cuts the file into keys and values; the rows say what they may
 * be. */
#include "conf.h"

#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/launcher_command.h"
#include "llm/models.h"
#include "log.h"
#include "proto/version.h"

enum { CONF_FILE_MAX = 1 << 20, CONF_VALUE_MAX = 4096 };

enum row_type {
    ROW_PATH, /* not empty; made absolute by nobody: relative to where the daemon starts */
    ROW_TEXT, /* may be empty */
    ROW_LIST, /* the same, and lines that begin with a blank go on with it */
    ROW_NAME, /* str_is_name */
    ROW_U64,
    ROW_REAL,
    ROW_ENUM
};

struct row {
    const char *key;
    enum row_type type;
    size_t offset;
    double min, max; /* of numbers; bytes of a path */
    const char *const *choices;
    const char *help;
};

static const char *const sandbox_names[] = { "bwrap", "none", NULL };
static const char *const replay_match_names[] = { "hash", "call", NULL };
static const char *const embedding_names[] = { "builtin", "openai", NULL };
static const char *const api_names[] = { "chat", "responses", "auto", NULL };
static const char *const effort_names[] = { "default", "none", "minimal", "low",
                                            "medium",  "high", "xhigh",   NULL };
static const char *const stream_names[] = { "no", "yes", NULL };
static const char *const evaluator_names[] = { "local", "command", "replay", "record", NULL };
static const char *const level_names[] = {
#define X(name, text) text,
    LOG_LEVEL_MAP(X)
#undef X
        NULL
};

#define AT(member) offsetof(struct conf, member)

/* Sorted by key. Every row applies at start. */
static const struct row rows[] = {
    { "command", ROW_TEXT, AT(command), 0, 0, NULL,
      "words before ksearch-eval with evaluator = command, such as srun -n1 --gres=gpu:1" },
    { "command_dir", ROW_TEXT, AT(command_dir), 0, 0, NULL,
      "folder of jobs, under one path on both machines; empty: in the data folder" },
    { "command_env", ROW_TEXT, AT(command_env), 0, 0, NULL,
      "environment variables that the command gets, blanks between them" },
    { "command_limit_retries", ROW_U64, AT(command_limit_retries), 0, 100, NULL,
      "how often an evaluation that hit the scheduler's time limit is tried again" },
    { "command_retries", ROW_U64, AT(command_retries), 0, 100, NULL,
      "how often an evaluation is tried again after a lost node, preemption or no place" },
    { "command_wait", ROW_REAL, AT(command_wait_s), 0, 1e7, NULL,
      "seconds that the command may wait for a place" },
    { "data", ROW_PATH, AT(data), 0, 0, NULL, "folder of the knowledge base" },
    { "default_device", ROW_NAME, AT(default_device), 0, 0, NULL,
      "where a search runs when nobody says" },
    { "embedding", ROW_ENUM, AT(embedding), 0, 0, embedding_names,
      "who embeds insights and questions: this program, or an OpenAI-compatible service" },
    { "embedding_batch", ROW_U64, AT(embedding_batch), 1, 2048, NULL,
      "insights in one request to the service" },
    { "embedding_dimensions", ROW_U64, AT(embedding_dimensions), 0, 65536, NULL,
      "numbers in a vector that the service is asked for; 0: as many as it gives" },
    { "embedding_key_file", ROW_TEXT, AT(embedding_key_file), 0, 0, NULL,
      "file with the service's key; empty: KSEARCH_API_KEY of the environment, or none" },
    { "embedding_model", ROW_TEXT, AT(embedding_model), 0, 100, NULL, "model of the service" },
    { "embedding_query_wait", ROW_REAL, AT(embedding_query_wait_s), 0.01, 60, NULL,
      "seconds that a question waits for the service before the built-in vectors are used" },
    { "embedding_timeout", ROW_REAL, AT(embedding_timeout_s), 0.1, 600, NULL,
      "seconds that a request in the background may take" },
    { "embedding_url", ROW_TEXT, AT(embedding_url), 0, 0, NULL,
      "address of the service; /v1/embeddings follows" },
    { "eval_threads", ROW_U64, AT(eval_threads), 0, 1024, NULL,
      "threads that a candidate gets; 0: all cores" },
    { "evaluator", ROW_ENUM, AT(evaluator), 0, 0, evaluator_names,
      "local measures here; command measures where 'command' leads; record measures here and "
      "appends to replay_file; replay answers from it" },
    { "harness", ROW_PATH, AT(harness), 0, 0, NULL, "path of ksearch-eval" },
    { "llm_api", ROW_ENUM, AT(llm_api), 0, 0, api_names,
      "interface of the models' endpoint; auto: chat, and responses for a model that wants it" },
    { "llm_backoff", ROW_REAL, AT(llm_backoff_s), 0, 600, NULL,
      "most seconds before a request is tried again for the first time; doubled each time" },
    { "llm_backoff_max", ROW_REAL, AT(llm_backoff_max_s), 0, 3600, NULL,
      "most seconds before a request is tried again, also when the endpoint asks for more" },
    { "llm_breaker_failures", ROW_U64, AT(llm_breaker_failures), 1, 1000, NULL,
      "failures in a row after which a model is left alone" },
    { "llm_breaker_wait", ROW_REAL, AT(llm_breaker_wait_s), 0.01, 86400, NULL,
      "seconds until a model that was left alone is tried with one request" },
    { "llm_ca_file", ROW_TEXT, AT(llm_ca_file), 0, 0, NULL,
      "file with the authorities that the endpoint's certificate is checked against; empty: the "
      "system's" },
    { "llm_coder", ROW_LIST, AT(llm_coder), 0, 0, NULL,
      "models that write programs, as in llm_models; empty: those" },
    { "llm_connect_timeout", ROW_REAL, AT(llm_connect_timeout_s), 0.01, 600, NULL,
      "seconds to connect to the endpoint" },
    { "llm_editor", ROW_LIST, AT(llm_editor), 0, 0, NULL,
      "models that repair the form of answers, as in llm_models; empty: those" },
    { "llm_effort", ROW_ENUM, AT(llm_effort), 0, 0, effort_names,
      "reasoning effort that is asked for; default: it is not mentioned" },
    { "llm_first_timeout", ROW_REAL, AT(llm_first_timeout_s), 0.01, 86400, NULL,
      "seconds until the first byte of an answer" },
    { "llm_idle_timeout", ROW_REAL, AT(llm_idle_timeout_s), 0.01, 86400, NULL,
      "seconds between two pieces of an answer" },
    { "llm_key_file", ROW_TEXT, AT(llm_key_file), 0, 0, NULL,
      "file with the endpoint's key; empty: KSEARCH_API_KEY of the environment, or none" },
    { "llm_max_tokens", ROW_U64, AT(llm_max_tokens), 0, 10000000, NULL,
      "most tokens of an answer; 0: what the endpoint gives" },
    { "llm_models", ROW_LIST, AT(llm_models), 0, 0, NULL,
      "models in the order in which they are tried, commas between; NAME@chat and "
      "NAME@responses go over llm_api" },
    { "llm_parallel", ROW_U64, AT(llm_parallel), 1, 1000, NULL,
      "requests to the endpoint at a time; more wait" },
    { "llm_planner", ROW_LIST, AT(llm_planner), 0, 0, NULL,
      "models that keep the world model, as in llm_models; empty: those" },
    { "llm_prices", ROW_LIST, AT(llm_prices), 0, 0, NULL,
      "dollars per million tokens: MODEL=IN/CACHED/OUT, commas between" },
    { "llm_prompts", ROW_TEXT, AT(llm_prompts), 0, 0, NULL,
      "folder of prompts that stand in for those of the program; empty: none" },
    { "llm_proxy", ROW_TEXT, AT(llm_proxy), 0, 0, NULL,
      "proxy on the way to the endpoint, http://, https:// or socks5://; empty: as the "
      "environment says" },
    { "llm_record", ROW_TEXT, AT(llm_record), 0, 0, NULL,
      "file to which the models' answers are appended, one JSON text a line; empty: none" },
    { "llm_replay_file", ROW_TEXT, AT(llm_replay_file), 0, 0, NULL,
      "recorded answers for searches that replay, one JSON text a line" },
    { "llm_replay_match", ROW_ENUM, AT(llm_replay_match), 0, 0, replay_match_names,
      "what an answer is found by: hash (the whole request), or call (its number and kind, where "
      "the wording has changed since)" },
    { "llm_retries", ROW_U64, AT(llm_retries), 0, 100, NULL,
      "how often a request that failed is tried again with the same model" },
    { "llm_stream", ROW_ENUM, AT(llm_stream), 0, 0, stream_names,
      "whether answers come in pieces as they are written" },
    { "llm_temperature", ROW_TEXT, AT(llm_temperature), 0, 0, NULL,
      "temperature; more numbers are for the attempts after the first; empty: it is not "
      "mentioned" },
    { "llm_timeout", ROW_REAL, AT(llm_timeout_s), 0.01, 86400, NULL,
      "seconds that one request may take" },
    { "llm_url", ROW_TEXT, AT(llm_url), 0, 0, NULL,
      "address of the models' endpoint; /v1/chat/completions or /v1/responses follows" },
    { "log_level", ROW_ENUM, AT(log_level), 0, 0, level_names, "least important level to log" },
    { "max_connections", ROW_U64, AT(max_connections), 1, 100000, NULL,
      "clients at a time; one more is refused" },
    { "pairs_max", ROW_U64, AT(pairs_max), 3, 1000, NULL,
      "most interleaved timing pairs of a workload" },
    { "pairs_min", ROW_U64, AT(pairs_min), 3, 1000, NULL,
      "least interleaved timing pairs of a workload" },
    { "replay_file", ROW_TEXT, AT(replay_file), 0, 0, NULL,
      "recorded evaluations, one JSON text a line" },
    { "sandbox", ROW_ENUM, AT(sandbox), 0, 0, sandbox_names,
      "bwrap confines candidates; none runs them as they are: only for code that you trust" },
    { "socket", ROW_PATH, AT(socket), 0, sizeof(((struct sockaddr_un *)0)->sun_path) - 1, NULL,
      "path of the Unix socket" },
    { "tasks", ROW_PATH, AT(tasks), 0, 0, NULL, "folders of task packs, ':' between them" },
    { "timing_budget", ROW_REAL, AT(timing_budget_s), 0.01, 600, NULL,
      "seconds of timing for one workload" },
    { "workers", ROW_U64, AT(workers), 1, 64, NULL, "threads for storage and files" },
};

/* ---- Defaults ---- */

/* Folder of the running program, "/opt/bin". */
static int program_folder(char *out, size_t size, struct err *err)
{
    ssize_t n = readlink("/proc/self/exe", out, size - 1);
    char *slash;

    if (n <= 0)
        return err_set(err, ERR_IO, "cannot read /proc/self/exe: %s", strerror(errno));
    out[n] = '\0';
    slash = strrchr(out, '/');
    if (slash != NULL && slash != out)
        *slash = '\0';
    return 0;
}

static char *must_printf(char *made)
{
    if (made == NULL)
        abort();
    return made;
}

static char *default_data(void)
{
    const char *xdg = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");

    if (xdg != NULL && xdg[0] == '/')
        return must_printf(str_printf("%s/ksearch", xdg));
    return must_printf(str_printf("%s/.local/share/ksearch", home != NULL ? home : ""));
}

static char *default_tasks(const char *folder)
{
    char *installed = must_printf(str_printf("%s/../share/ksearch/tasks", folder));

    if (file_is_dir(installed))
        return installed;
    free(installed);
    return xstrdup(KS_DEFAULT_TASKS);
}

int conf_new(struct conf **out, struct err *err)
{
    char folder[PATH_MAX], socket[PATH_MAX];
    struct conf *c;

    if (program_folder(folder, sizeof(folder), err) != 0 ||
        proto_socket_path(socket, sizeof(socket), err) != 0)
        return -1;
    c = xcalloc(1, sizeof(*c));
    *c = (struct conf){
        .data = default_data(),
        .socket = xstrdup(socket),
        .tasks = default_tasks(folder),
        .harness = must_printf(str_printf("%s/ksearch-eval", folder)),
        .default_device = xstrdup("cpu"),
        .replay_file = xstrdup(""),
        .command = xstrdup(""),
        .command_env = xstrdup("HOME USER SLURM_CONF SSH_AUTH_SOCK"),
        .command_dir = xstrdup(""),
        .embedding_url = xstrdup("https://api.openai.com"),
        .embedding_model = xstrdup(""),
        .embedding_key_file = xstrdup(""),
        .embedding_batch = 64,
        .embedding_timeout_s = 30,
        .embedding_query_wait_s = 2,
        .llm_url = xstrdup("https://api.openai.com"),
        .llm_key_file = xstrdup(""),
        .llm_proxy = xstrdup(""),
        .llm_ca_file = xstrdup(""),
        .llm_models = xstrdup(""),
        .llm_planner = xstrdup(""),
        .llm_coder = xstrdup(""),
        .llm_editor = xstrdup(""),
        .llm_temperature = xstrdup(""),
        .llm_prices = xstrdup(""),
        .llm_prompts = xstrdup(""),
        .llm_record = xstrdup(""),
        .llm_replay_file = xstrdup(""),
        .llm_api = LLM_API_AUTO,
        .llm_stream = 1,
        .llm_parallel = 16,
        .llm_retries = 4,
        .llm_breaker_failures = 5,
        .llm_connect_timeout_s = 15,
        .llm_first_timeout_s = 600,
        .llm_idle_timeout_s = 120,
        .llm_timeout_s = 1800,
        .llm_backoff_s = 1,
        .llm_backoff_max_s = 120,
        .llm_breaker_wait_s = 60,
        .command_retries = 2,
        .command_limit_retries = 0,
        .command_wait_s = 3600,
        .sandbox = CONF_SANDBOX_BWRAP,
        .log_level = LOG_LEVEL_INFO,
        .evaluator = CONF_EVAL_LOCAL,
        .workers = 4,
        .max_connections = 1100,
        .pairs_min = 5,
        .pairs_max = 25,
        .timing_budget_s = 0.2,
    };
    *out = c;
    return 0;
}

static bool row_is_text(const struct row *r)
{
    return r->type == ROW_PATH || r->type == ROW_TEXT || r->type == ROW_LIST || r->type == ROW_NAME;
}

void conf_free(struct conf *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (row_is_text(&rows[i]))
            free(*(char **)((char *)c + rows[i].offset));
    free(c);
}

/* ---- One value ---- */

static void allowed_text(const struct row *r, char *out, size_t size)
{
    size_t n = 0;

    switch (r->type) {
    case ROW_PATH:
        if (r->max > 0)
            snprintf(out, size, "a path of 1 to %.0f bytes", r->max);
        else
            str_copy(out, size, "a path, not empty");
        return;
    case ROW_TEXT:
    case ROW_LIST:
        snprintf(out, size, "text of at most %d bytes", CONF_VALUE_MAX);
        return;
    case ROW_NAME:
        str_copy(out, size, "a name of letters, digits, '_', '.' and '-'");
        return;
    case ROW_U64:
        snprintf(out, size, "a whole number from %.0f to %.0f", r->min, r->max);
        return;
    case ROW_REAL:
        snprintf(out, size, "a number from %g to %g", r->min, r->max);
        return;
    case ROW_ENUM:
        n = (size_t)snprintf(out, size, "one of");
        for (size_t i = 0; r->choices[i] && n < size; i++)
            n += (size_t)snprintf(out + n, size - n, "%s %s", i ? "," : "", r->choices[i]);
        return;
    }
}

static bool set_text(const struct row *r, char **field, const char *value)
{
    size_t len = strlen(value);

    if (len > (r->max > 0 ? (size_t)r->max : (size_t)CONF_VALUE_MAX) ||
        (len == 0 && r->type != ROW_TEXT && r->type != ROW_LIST) ||
        (r->type == ROW_NAME && !str_is_name(value)))
        return false;
    free(*field);
    *field = xstrdup(value);
    return true;
}

/* Changes nothing unless the value is allowed. */
static bool set_value(const struct row *r, void *field, const char *value)
{
    uint64_t u;
    double d;

    switch (r->type) {
    case ROW_PATH:
    case ROW_TEXT:
    case ROW_LIST:
    case ROW_NAME:
        return set_text(r, field, value);
    case ROW_U64:
        if (!str_to_u64(value, &u) || (double)u < r->min || (double)u > r->max)
            return false;
        *(uint64_t *)field = u;
        return true;
    case ROW_REAL:
        if (!str_to_double(value, &d) || d < r->min || d > r->max)
            return false;
        *(double *)field = d;
        return true;
    case ROW_ENUM:
        for (int i = 0; r->choices[i]; i++)
            if (strcmp(r->choices[i], value) == 0) {
                *(int *)field = i;
                return true;
            }
        return false;
    }
    return false;
}

static const struct row *find_row(const char *key)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strcmp(rows[i].key, key) == 0)
            return &rows[i];
    return NULL;
}

static int unknown_key(const char *where, const char *key, struct err *err)
{
    enum { LIST_BYTES = 300 };
    char seen[64], list[LIST_BYTES];
    size_t n = 0, cut;

    str_visible(key, strlen(key), seen, sizeof(seen));
    for (size_t i = 0; i < ARRAY_LEN(rows) && n < sizeof(list); i++)
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "", rows[i].key);
    cut = n < sizeof(list) ? n : (size_t)((char *)memrchr(list, ',', sizeof(list)) - list);
    return err_set(err, ERR_NOT_FOUND, "%s: '%s' is not an option; allowed: %.*s%s", where, seen,
                   (int)cut, list, cut < n ? ", and what else --check-config prints" : "");
}

int conf_set(struct conf *c, const char *where, const char *key, const char *value, struct err *err)
{
    const struct row *r = find_row(key);
    char seen[96], allowed[160];

    if (r == NULL)
        return unknown_key(where, key, err);
    if (set_value(r, (char *)c + r->offset, value))
        return 0;
    str_visible(value, strlen(value), seen, sizeof(seen));
    allowed_text(r, allowed, sizeof(allowed));
    return err_set(err, ERR_INVALID, "%s: '%s' is '%s'; allowed is %s", where, key, seen, allowed);
}

/* ---- The file ---- */

struct reading {
    struct conf *conf;
    const char *path, *next;
    unsigned line;
    bool failed, goes_on; /* the line begins with a blank */
    struct err err;
    unsigned seen[ARRAY_LEN(rows)]; /* line that set the row; 0 for none */
};

/* fgets for inih over our buffer; a line that inih would cut in two is an error. */
static char *read_line(char *out, int size, void *ctx)
{
    struct reading *r = ctx;
    size_t len = strcspn(r->next, "\n");

    if (*r->next == '\0' || r->failed)
        return NULL;
    r->line++;
    if (len + 2 > (size_t)size) {
        r->failed = true;
        err_set(&r->err, ERR_INVALID, "%s:%u: the line has %zu bytes; at most %d are allowed",
                r->path, r->line, len, size - 2);
        return NULL;
    }
    memcpy(out, r->next, len);
    out[len] = '\0';
    r->goes_on = out[0] == ' ' || out[0] == '\t';
    r->next += len;
    if (*r->next == '\n')
        r->next++;
    return out;
}

static int more_of_list(struct reading *r, const struct row *row, const char *where,
                        const char *value)
{
    const char *before = *(char *const *)((const char *)r->conf + row->offset);
    CLEANUP(freep) char *whole = must_printf(str_printf("%s %s", before, value));

    r->failed = conf_set(r->conf, where, row->key, whole, &r->err) != 0;
    return !r->failed;
}

static int on_pair(void *ctx, const char *section, const char *name, const char *value)
{
    struct reading *r = ctx;
    const struct row *row = find_row(name);
    char where[300];

    if (r->failed)
        return 0;
    snprintf(where, sizeof(where), "%s:%u", r->path, r->line);
    r->failed = true;
    if (section[0] != '\0') {
        char seen[64];

        str_visible(section, strlen(section), seen, sizeof(seen));
        err_set(&r->err, ERR_INVALID,
                "%s: section '[%s]' is not known; options stand in no section", where, seen);
        return 0;
    }
    if (row != NULL && row->type == ROW_LIST && r->goes_on && r->seen[row - rows] != 0)
        return more_of_list(r, row, where, value);
    if (row != NULL && r->seen[row - rows] != 0) {
        err_set(&r->err, ERR_INVALID, "%s: '%s' was given before, in line %u", where, name,
                r->seen[row - rows]);
        return 0;
    }
    if (conf_set(r->conf, where, name, value, &r->err) != 0) {
        r->err.code = ERR_INVALID;
        return 0;
    }
    r->seen[row - rows] = r->line;
    r->failed = false;
    return 1;
}

int conf_load(struct conf *c, const char *path, struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = CONF_FILE_MAX };
    struct reading r = { .conf = c, .path = path };
    int line;

    if (file_read(path, &text, err) != 0)
        return err_ctx(err, "configuration");
    if (strlen(buf_str(&text)) != text.len)
        return err_set(err, ERR_INVALID, "configuration '%s' holds a NUL character", path);
    r.next = buf_str(&text);
    line = ini_parse_stream(read_line, &r, on_pair, &r);
    if (r.failed) {
        *err = r.err;
        return -1;
    }
    if (line < 0)
        return err_set(err, ERR_NOMEM, "no memory to read configuration '%s'", path);
    if (line > 0)
        return err_set(err, ERR_INVALID, "%s:%d: the line is neither 'key = value' nor a comment",
                       path, line);
    return 0;
}

static int check_command(const struct conf *c, struct err *err)
{
    char **words;

    if (command_words(c->command, &words, err) != 0) {
        struct err why = *err;

        return err_set(err, ERR_INVALID,
                       "'command' is '%.100s', %s; 'evaluator = command' needs one", c->command,
                       why.msg);
    }
    command_words_free(words);
    return 0;
}

/* An address of a service or a proxy; what it holds is shown by messages and --check-config. */
static int check_address(const char *option, const char *url, const char *const *schemes,
                         const char *key_option, struct err *err)
{
    const char *authority;

    while (*schemes != NULL && !str_has_prefix(url, *schemes))
        schemes++;
    authority = strstr(url, "://");
    authority = authority != NULL ? authority + 3 : url;
    if (memchr(authority, '@', strcspn(authority, "/?#")) != NULL)
        return err_set(err, ERR_INVALID,
                       "'%s' holds a name or a password, which messages would show; %s", option,
                       key_option);
    if (*schemes == NULL || *authority == '\0' || strpbrk(url, " \t\"\\") != NULL)
        return err_set(err, ERR_INVALID,
                       "'%s' is '%.100s'; an address with http:// or https:// is allowed", option,
                       url);
    return 0;
}

static const char *const web_schemes[] = { "http://", "https://", NULL };
static const char *const proxy_schemes[] = { "http://", "https://", "socks5://", "socks5h://",
                                             NULL };

/* Forms only: which of them are needed is known when a search asks for a model. */
static int check_llm(const struct conf *c, struct err *err)
{
    struct llm_chain chain;
    struct llm_prices prices;
    struct llm_temperatures temperatures;

    if (check_address("llm_url", c->llm_url, web_schemes, "'llm_key_file' is where the key belongs",
                      err) != 0 ||
        (c->llm_proxy[0] != '\0' &&
         check_address("llm_proxy", c->llm_proxy, proxy_schemes,
                       "the environment's https_proxy is where a proxy's password belongs",
                       err) != 0))
        return -1;
    if (llm_chain_parse("llm_models", c->llm_models, &chain, err) != 0 ||
        llm_chain_parse("llm_planner", c->llm_planner, &chain, err) != 0 ||
        llm_chain_parse("llm_coder", c->llm_coder, &chain, err) != 0 ||
        llm_chain_parse("llm_editor", c->llm_editor, &chain, err) != 0 ||
        llm_temperatures_parse(c->llm_temperature, &temperatures, err) != 0 ||
        llm_prices_parse(c->llm_prices, &prices, err) != 0) {
        err->code = ERR_INVALID; /* also when it is too long */
        return -1;
    }
    return 0;
}

static int check_embedding(const struct conf *c, struct err *err)
{
    if (c->embedding_model[0] == '\0')
        return err_set(err, ERR_INVALID,
                       "'embedding_model' is empty; 'embedding = openai' needs it");
    return check_address("embedding_url", c->embedding_url, web_schemes,
                         "'embedding_key_file' is where the key belongs", err);
}

int conf_check(const struct conf *c, struct err *err)
{
    if (c->pairs_min > c->pairs_max)
        return err_set(err, ERR_INVALID,
                       "'pairs_min' is %llu and 'pairs_max' is %llu; the least cannot be more than "
                       "the most",
                       (unsigned long long)c->pairs_min, (unsigned long long)c->pairs_max);
    if ((c->embedding == CONF_EMBEDDING_OPENAI && check_embedding(c, err) != 0) ||
        check_llm(c, err) != 0)
        return -1;
    if (c->evaluator == CONF_EVAL_COMMAND)
        return check_command(c, err);
    if (c->evaluator != CONF_EVAL_LOCAL && c->replay_file[0] == '\0')
        return err_set(err, ERR_INVALID, "'replay_file' is empty; 'evaluator = %s' needs it",
                       evaluator_names[c->evaluator]);
    if (c->evaluator == CONF_EVAL_REPLAY && !file_exists(c->replay_file))
        return err_set(err, ERR_NOT_FOUND, "'replay_file' is '%s', which does not exist",
                       c->replay_file);
    return 0;
}

/* ---- Printing ---- */

static void value_text(const struct conf *c, const struct row *r, char *out, size_t size)
{
    const void *field = (const char *)c + r->offset;

    switch (r->type) {
    case ROW_PATH:
    case ROW_TEXT:
    case ROW_LIST:
    case ROW_NAME:
        str_copy(out, size, *(char *const *)field);
        return;
    case ROW_U64:
        snprintf(out, size, "%llu", (unsigned long long)*(const uint64_t *)field);
        return;
    case ROW_REAL:
        snprintf(out, size, "%.17g", *(const double *)field);
        return;
    case ROW_ENUM:
        str_copy(out, size, r->choices[*(const int *)field]);
        return;
    }
}

const char *conf_effort_name(const struct conf *c)
{
    return c->llm_effort != 0 ? effort_names[c->llm_effort] : NULL;
}

/* Adds a list, broken at blanks into lines that a file may have. */
static int print_list(const char *value, struct buf *out, struct err *err)
{
    enum { LINE_BYTES = 150 };

    while (strlen(value) > LINE_BYTES) {
        const char *blank = memrchr(value, ' ', LINE_BYTES);

        if (blank == NULL || blank == value)
            break;
        if (buf_add(out, value, (size_t)(blank - value), err) != 0 || buf_adds(out, "\n", err) != 0)
            return -1;
        value = blank; /* the next line begins with it */
    }
    return buf_adds(out, value, err);
}

int conf_print(const struct conf *c, struct buf *out, struct err *err)
{
    char value[CONF_VALUE_MAX + 1], allowed[160];

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(freep) char *text = NULL;

        value_text(c, &rows[i], value, sizeof(value));
        allowed_text(&rows[i], allowed, sizeof(allowed));
        text = str_printf("# %s; %s\n%s = ", rows[i].help, allowed, rows[i].key);
        if (text == NULL)
            return err_set(err, ERR_NOMEM, "no memory to print the configuration");
        if (buf_adds(out, text, err) != 0 ||
            (rows[i].type == ROW_LIST ? print_list(value, out, err) : buf_adds(out, value, err)) !=
                0 ||
            buf_adds(out, "\n", err) != 0)
            return -1;
    }
    return 0;
}
