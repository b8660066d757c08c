# SPDX-License-Identifier: Apache-2.0
# Language models: who answers requests. Knows the loop and the configuration, no searches.
pkg_check_modules(LLM_CURL REQUIRED IMPORTED_TARGET libcurl)
pkg_check_modules(LLM_SSL REQUIRED IMPORTED_TARGET openssl)
add_library(llm STATIC llm/llm.c
  llm/breaker.c llm/http.c llm/openai_answer.c llm/openai_fault.c llm/openai_job.c llm/openai_judge.c
  llm/openai_request.c llm/provider_openai.c llm/sse.c
  llm/cassette.c llm/provider_queue.c llm/provider_record.c llm/provider_replay.c)
target_link_libraries(llm PUBLIC daemon_core base PRIVATE PkgConfig::LLM_CURL PkgConfig::LLM_SSL m)
