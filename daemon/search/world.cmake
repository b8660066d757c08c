# SPDX-License-Identifier: Apache-2.0
# The world model alone: typed tree, edits, selection, stagnation. Include once, from daemon/.
add_library(search_world STATIC
  ${CMAKE_CURRENT_LIST_DIR}/world.c
  ${CMAKE_CURRENT_LIST_DIR}/world_edit.c
  ${CMAKE_CURRENT_LIST_DIR}/world_edit_json.c
  ${CMAKE_CURRENT_LIST_DIR}/world_json.c
  ${CMAKE_CURRENT_LIST_DIR}/world_ops.c
  ${CMAKE_CURRENT_LIST_DIR}/world_parse.c
  ${CMAKE_CURRENT_LIST_DIR}/world_report.c
  ${CMAKE_CURRENT_LIST_DIR}/scorebook.c
  ${CMAKE_CURRENT_LIST_DIR}/select.c
  ${CMAKE_CURRENT_LIST_DIR}/stagnation.c)
target_include_directories(search_world PUBLIC ${PROJECT_SOURCE_DIR}/daemon)
target_link_libraries(search_world PUBLIC base)
