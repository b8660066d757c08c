/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The grammars of programs as a model is told them; see artifact_impl.h. A test parses the
 * examples, so that what is told here is what is read.
 */
#include "search/artifact_impl.h"

#define C_HEAD                                                                                     \
    "Outside code you may write these lines, each at most once; all other prose is ignored:\n"     \
    "NOTE: one sentence on what this program does differently\n"                                   \
    "EXPECT: 1.8x +- 20%\n"                                                                        \
    "(the speed that you expect, as a multiple of the baseline's, with your uncertainty)\n"

#define C_RULES                                                                                    \
    "The program is one C file (gnu17). It defines, not static:\n"                                 \
    "    int ks_kernel(const struct ks_call *call)\n"                                              \
    "It includes \"ks_task.h\" and standard headers in <>; no other file is there. At most 256 "   \
    "KiB.\n"                                                                                       \
    "\n"                                                                                           \
    "Tunables. Numbers that should be searched, rather than guessed, are declared in comment "     \
    "lines of the program, at most 16:\n"                                                          \
    "    //@tunable NAME TYPE VALUES default VALUE [structural] [technique WORD] [\"help\"]\n"     \
    "    //@constraint EXPRESSION\n"                                                               \
    "TYPE is int, real, bool or enum. VALUES, at most 256, are parted by '|'; a bool needs none. " \
    "Add the word "                                                                                \
    "structural where another value is another algorithm rather than another size. A constraint "  \
    "is an expression of tunables and numbers with + - * / % comparisons && || ! and "             \
    "parentheses, enum values as 'text'; the defaults must satisfy all of them. The build "        \
    "defines each NAME as a macro: the value, 0 or 1 for a bool; for an enum MODE with values a "  \
    "and b, MODE_a and MODE_b are 0 and 1 and MODE is one of them. The program must use each "     \
    "NAME. A fallback is optional, must be under #ifndef NAME, and equals the declared default. "  \
    "Names that begin with KS_ or _ are taken.\n"

#define C_WHOLE_EXAMPLE                                                                            \
    "NOTE: Adds in blocks that threads take in turn.\n"                                            \
    "EXPECT: 1.8x +- 20%\n"                                                                        \
    "```c\n"                                                                                       \
    "#include \"ks_task.h\"\n"                                                                     \
    "\n"                                                                                           \
    "//@tunable BLOCK int 1024|4096|16384 default 4096 technique tiling \"elements per block\"\n"  \
    "//@tunable ORDER enum rising|falling default rising structural \"which block is first\"\n"    \
    "//@constraint BLOCK % 1024 == 0\n"                                                            \
    "#ifndef BLOCK\n"                                                                              \
    "#define BLOCK 4096\n"                                                                         \
    "#endif\n"                                                                                     \
    "\n"                                                                                           \
    "static void add_block(void *ctx, int block)\n"                                                \
    "{\n"                                                                                          \
    "    const struct ks_call *call = ctx;\n"                                                      \
    "    const float *x = call->inputs[0].data, *y = call->inputs[1].data;\n"                      \
    "    float *z = call->outputs[0].data;\n"                                                      \
    "    int64_t n = call->outputs[0].shape[0], from, to;\n"                                       \
    "\n"                                                                                           \
    "#if ORDER == ORDER_falling\n"                                                                 \
    "    block = (int)((n + BLOCK - 1) / BLOCK) - 1 - block;\n"                                    \
    "#endif\n"                                                                                     \
    "    from = (int64_t)block * BLOCK;\n"                                                         \
    "    to = from + BLOCK < n ? from + BLOCK : n;\n"                                              \
    "    for (int64_t i = from; i < to; i++)\n"                                                    \
    "        z[i] = x[i] + y[i];\n"                                                                \
    "}\n"                                                                                          \
    "\n"                                                                                           \
    "int ks_kernel(const struct ks_call *call)\n"                                                  \
    "{\n"                                                                                          \
    "    int64_t n = call->outputs[0].shape[0];\n"                                                 \
    "\n"                                                                                           \
    "    call->parallel(call->pool, add_block, (void *)call, (int)((n + BLOCK - 1) / BLOCK));\n"   \
    "    return 0;\n"                                                                              \
    "}\n"                                                                                          \
    "```\n"

#define C_PATCH_EXAMPLE                                                                            \
    "NOTE: Tells the compiler that the arrays do not overlap.\n"                                   \
    "EXPECT: 1.1x\n"                                                                               \
    "<<<<<<< SEARCH\n"                                                                             \
    "    float *z = call->outputs[0].data;\n"                                                      \
    "=======\n"                                                                                    \
    "    float *restrict z = call->outputs[0].data;\n"                                             \
    ">>>>>>> REPLACE\n"

#define C_WHOLE                                                                                    \
    "Answer with the whole program, in exactly one fence tagged c. Nothing is added to it and "    \
    "nothing is changed in it.\n"

#define C_PATCH                                                                                    \
    "Answer in one of two forms, never in both.\n"                                                 \
    "Form 1, the whole program, in exactly one fence tagged c. Nothing is added to it and "        \
    "nothing is changed in it.\n"                                                                  \
    "Form 2, changes of the program that you were shown, as blocks. The markers stand alone on "   \
    "their lines. The lines between SEARCH and ======= must be in that program exactly once: "     \
    "whole lines, copied with their indentation; blanks at line ends do not count. Take enough "   \
    "lines to make them unique. The lines up to REPLACE take their place; none at all deletes "    \
    "them. Blocks "                                                                                \
    "are applied in order, each to the result of those before. The result must be a whole "        \
    "program as below. Prefer this form for small changes.\n"

#define C_TASK ", for a task that adds two vectors:\n"

const char c_grammar_whole[] = C_WHOLE "\n" C_RULES "\n" C_HEAD "\nExample" C_TASK C_WHOLE_EXAMPLE;

const char c_grammar_patch[] =
    C_PATCH "\n" C_RULES "\n" C_HEAD "\nExample of form 1" C_TASK C_WHOLE_EXAMPLE
            "\nExample of form 2, a change of that program:\n" C_PATCH_EXAMPLE;
