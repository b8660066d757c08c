# SPDX-License-Identifier: Apache-2.0
# Task packs, evaluation results and launchers. Include once, from daemon/.
pkg_check_modules(EVAL_EVENT REQUIRED IMPORTED_TARGET libevent_core)
pkg_check_modules(EVAL_CRYPTO REQUIRED IMPORTED_TARGET libcrypto)
pkg_check_modules(EVAL_ZLIB REQUIRED IMPORTED_TARGET zlib)
add_library(eval STATIC
  ${CMAKE_CURRENT_LIST_DIR}/feedback.c
  ${CMAKE_CURRENT_LIST_DIR}/formula.c
  ${CMAKE_CURRENT_LIST_DIR}/launcher.c
  ${CMAKE_CURRENT_LIST_DIR}/launcher_command.c
  ${CMAKE_CURRENT_LIST_DIR}/launcher_local.c
  ${CMAKE_CURRENT_LIST_DIR}/launcher_replay.c
  ${CMAKE_CURRENT_LIST_DIR}/pack.c
  ${CMAKE_CURRENT_LIST_DIR}/pack_install.c
  ${CMAKE_CURRENT_LIST_DIR}/pack_parse.c
  ${CMAKE_CURRENT_LIST_DIR}/pack_regime.c
  ${CMAKE_CURRENT_LIST_DIR}/recorded.c
  ${CMAKE_CURRENT_LIST_DIR}/result.c
  ${CMAKE_CURRENT_LIST_DIR}/t4.c)
target_include_directories(eval PUBLIC ${PROJECT_SOURCE_DIR}/daemon)
target_link_libraries(eval PUBLIC base search_numeric PRIVATE PkgConfig::EVAL_EVENT PkgConfig::EVAL_CRYPTO
  PkgConfig::EVAL_ZLIB)
