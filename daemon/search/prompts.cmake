# SPDX-License-Identifier: Apache-2.0
# The files of prompts/ as a table inside the library `search`; made anew when one changes.
file(GLOB KS_PROMPT_FILES CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/prompts/*.md)
set(KS_PROMPT_TABLE ${CMAKE_CURRENT_BINARY_DIR}/prompt_files.c)
add_custom_command(OUTPUT ${KS_PROMPT_TABLE}
  COMMAND ${CMAKE_COMMAND} -DOUT=${KS_PROMPT_TABLE} "-DFILES=${KS_PROMPT_FILES}"
    -P ${CMAKE_CURRENT_LIST_DIR}/embed_prompts.cmake
  DEPENDS ${KS_PROMPT_FILES} ${CMAKE_CURRENT_LIST_DIR}/embed_prompts.cmake
  VERBATIM)
target_sources(search PRIVATE ${KS_PROMPT_TABLE})
# For those who write prompts of their own (llm_prompts).
install(FILES ${KS_PROMPT_FILES} DESTINATION ${CMAKE_INSTALL_DATADIR}/ksearch/prompts)
