# SPDX-License-Identifier: Apache-2.0
# Tests of the daemon's core: threads, configuration, connections, pages printed from tables.
foreach(t work conf rpc)
  ks_unit_test(test_daemon_${t} test_${t}.c LIBS daemon_core)
endforeach()
ks_unit_test(test_daemon_docs test_docs.c LIBS daemon)
ks_unit_test(test_daemon_regimes test_regimes.c LIBS daemon)
ks_unit_test(test_daemon_embedding test_embedding_openai.c fake_embeddings.c LIBS daemon)
ks_unit_test(test_daemon_ksearch_import test_ksearch_import.c LIBS daemon)
