/* SPDX-License-Identifier: Apache-2.0 */
/* Importing recorded tuning spaces: what `task import` does with a file, and how both imports are
 * shown. */
#include "base/jsonx.h"
#include "cli.h"
#include "proto/methods.h"

static void print_names(const json_t *list)
{
    json_t *name;
    size_t i;

    json_array_foreach (list, i, name)
        printf("%s%s", i ? ", " : "", json_string_value(name));
}

void recorded_import_print(const json_t *result)
{
    const json_t *failures = json_object_get(result, "failures"),
                 *devices = json_object_get(result, "devices");
    const char *class;
    json_t *n;

    printf("%s on %s: %lld assignments of %lld parameters, %lld valid%s\n",
           jsonx_str(result, "task", ""), jsonx_str(result, "device", ""),
           jsonx_int(result, "assignments", 0), jsonx_int(result, "parameters", 0),
           jsonx_int(result, "valid", 0),
           jsonx_bool(result, "changed", 1) ? "" : "; it was there already");
    json_object_foreach ((json_t *)failures, class, n)
        printf("  %s: %lld\n", class, (long long)json_integer_value(n));
    if (json_array_size(devices) > 0) {
        printf("searchable on: ");
        print_names(devices);
        putchar('\n');
    }
}

/* The method's parameters, wherever the command's rows put them. */
static json_t *import_params(const struct args *args)
{
    static const char *const names[] = { "name", "device", "noise" };
    json_t *params = json_object();

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        json_t *v = json_object_get(args->params, names[i]);

        if (v == NULL)
            v = json_object_get(args->local, names[i]);
        if (v != NULL)
            json_object_set(params, names[i], v);
    }
    return params;
}

int cli_task_import_recorded(struct cli *cli, const struct command *cmd, struct args *args,
                             const char *path, struct err *err)
{
    json_auto_t *params = import_params(args), *result = NULL;

    (void)cmd;
    if (json_object_get(params, "name") == NULL || json_object_get(params, "device") == NULL)
        return err_set(
            err, ERR_INVALID,
            "a recorded space needs '--name T' and '--device D': the task that it becomes, and the "
            "device that it was recorded on");
    if (cli_call_file(cli, METHOD_TASK_IMPORT_RECORDED, params, path, &result, err) != 0)
        return err_ctx(err, "task import '%s'", path);
    cli_show(cli, recorded_import_print, result);
    return 0;
}
