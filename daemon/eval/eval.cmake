# SPDX-License-Identifier: Apache-2.0
# Task packs, evaluation results and launchers. Include once, from daemon/.
pkg_check_modules(EVAL_EVENT REQUIRED IMPORTED_TARGET libevent_core)
pkg_check_modules(EVAL_CRYPTO REQUIRED IMPORTED_TARGET libcrypto)
add_library(eval STATIC
  ${CMAKE_CURRENT_LIST_DIR}/launcher.c
  ${CMAKE_CURRENT_LIST_DIR}/launcher_local.c
  ${CMAKE_CURRENT_LIST_DIR}/launcher_replay.c
  ${CMAKE_CURRENT_LIST_DIR}/pack.c
  ${CMAKE_CURRENT_LIST_DIR}/pack_parse.c
  ${CMAKE_CURRENT_LIST_DIR}/result.c)
target_include_directories(eval PUBLIC ${PROJECT_SOURCE_DIR}/daemon)
target_link_libraries(eval PUBLIC base PRIVATE PkgConfig::EVAL_EVENT PkgConfig::EVAL_CRYPTO)
