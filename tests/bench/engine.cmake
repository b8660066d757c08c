# SPDX-License-Identifier: Apache-2.0
# engine_bench: the numeric engine on recorded tuning tables. Built, never run by ctest.
pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)
add_executable(engine_bench ${CMAKE_CURRENT_LIST_DIR}/engine_bench.c)
target_link_libraries(engine_bench PRIVATE ks_flags search_numeric PkgConfig::ZLIB m)
