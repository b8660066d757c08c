# SPDX-License-Identifier: Apache-2.0
# The numeric engine of the built-in proposer: spaces, surrogate models, proposals. Knows base and BLAS alone.
if(TARGET search_numeric)
  return()
endif()
pkg_check_modules(OPENBLAS REQUIRED IMPORTED_TARGET openblas)
pkg_check_modules(NUMERIC_PACKED REQUIRED IMPORTED_TARGET zlib libcrypto)
find_path(LAPACKE_INCLUDE_DIR lapacke.h REQUIRED)
find_library(LAPACKE_LIBRARY lapacke REQUIRED)

set(KS_NUMERIC_DIR ${CMAKE_CURRENT_LIST_DIR})
add_library(search_numeric STATIC
  ${KS_NUMERIC_DIR}/space.c ${KS_NUMERIC_DIR}/space_parse.c ${KS_NUMERIC_DIR}/space_value.c
  ${KS_NUMERIC_DIR}/space_constraint.c ${KS_NUMERIC_DIR}/space_expr.c ${KS_NUMERIC_DIR}/space_rows.c
  ${KS_NUMERIC_DIR}/space_walk.c ${KS_NUMERIC_DIR}/space_table.c ${KS_NUMERIC_DIR}/packed.c ${KS_NUMERIC_DIR}/rowset.c ${KS_NUMERIC_DIR}/vecmath.c
  ${KS_NUMERIC_DIR}/linalg.c ${KS_NUMERIC_DIR}/gp.c ${KS_NUMERIC_DIR}/gp_fit.c ${KS_NUMERIC_DIR}/forest.c
  ${KS_NUMERIC_DIR}/transfer.c ${KS_NUMERIC_DIR}/engine.c ${KS_NUMERIC_DIR}/engine_pool.c
  ${KS_NUMERIC_DIR}/engine_model.c ${KS_NUMERIC_DIR}/engine_propose.c)
# Without errno and traps the elementwise loops vectorise; neither changes a result.
set_source_files_properties(${KS_NUMERIC_DIR}/vecmath.c PROPERTIES
  COMPILE_OPTIONS "-O3;-fno-math-errno;-fno-trapping-math")
set_source_files_properties(${KS_NUMERIC_DIR}/forest.c PROPERTIES COMPILE_OPTIONS "-O3")
# Headers are included as "search/space.h".
get_filename_component(KS_NUMERIC_PARENT ${KS_NUMERIC_DIR} DIRECTORY)
target_include_directories(search_numeric PUBLIC ${KS_NUMERIC_PARENT} PRIVATE ${LAPACKE_INCLUDE_DIR})
target_link_libraries(search_numeric PUBLIC base ks_flags PRIVATE PkgConfig::OPENBLAS PkgConfig::NUMERIC_PACKED
  ${LAPACKE_LIBRARY} m)
