# How every folder of Bittern is built: one set of compiler and linker flags, and the functions that declare
# a library, a program, a test and the files of one instruction set. It does not list folders; CMakeLists.txt does.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# Asserts stay on in our own checks (base/check.h), so NDEBUG costs nothing there; -O3 is for kernels alone.
set(CMAKE_C_FLAGS_RELEASE "-O2 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

find_program(BITTERN_CCACHE ccache)
if(BITTERN_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER "${BITTERN_CCACHE}")
  set(CMAKE_CXX_COMPILER_LAUNCHER "${BITTERN_CCACHE}")
  set(CMAKE_CUDA_COMPILER_LAUNCHER "${BITTERN_CCACHE}")
endif()

find_package(Threads REQUIRED)
if(BITTERN_CUDA)
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
endif()

# --- Flags that every target of ours gets -----------------------------------------------------------------------

add_library(bittern_flags INTERFACE)
target_include_directories(bittern_flags INTERFACE
  "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/include" "${PROJECT_BINARY_DIR}/include")
# Contraction is off so that a*b+c rounds the same in every file; kernels ask for FMA by name.
target_compile_options(bittern_flags INTERFACE
  $<$<COMPILE_LANGUAGE:C,CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-ffunction-sections;-fdata-sections;-ffp-contract=off>)
if(BITTERN_WERROR)
  target_compile_options(bittern_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Werror>)
endif()
target_link_options(bittern_flags INTERFACE -Wl,--gc-sections)
target_link_libraries(bittern_flags INTERFACE Threads::Threads)

if(BITTERN_SANITIZE)
  list(JOIN BITTERN_SANITIZE "," bittern_sanitizers)
  # Frame pointers and line tables give reports their stacks; a finding ends the run, otherwise a test could pass over it.
  add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${bittern_sanitizers}>
                      $<$<COMPILE_LANGUAGE:C,CXX>:-fno-omit-frame-pointer>
                      $<$<COMPILE_LANGUAGE:C,CXX>:-fno-sanitize-recover=all>
                      $<$<COMPILE_LANGUAGE:C,CXX>:-g1>)
  # GCC 12 sees uninitialized reads in the standard library's regex once sanitizers have rewritten it.
  add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:-Wno-maybe-uninitialized>)
  add_link_options(-fsanitize=${bittern_sanitizers})
  # libtsan intercepts the shared C++ runtime; sanitized builds are for this machine alone.
  set(bittern_static OFF)
else()
  set(bittern_static ${BITTERN_NATIVE_STATIC})
endif()
if(bittern_static)
  target_link_options(bittern_flags INTERFACE -static-libstdc++ -static-libgcc)
  set(OPENSSL_USE_STATIC_LIBS ON)
  set(Boost_USE_STATIC_LIBS ON)
endif()

# bittern_system_library(<target> <name> [<name of an archive it needs> ...])
# Makes the imported target <target> from lib<name>: the archive when linking statically and it exists, else the
# shared library. The further names are needed only with the archive (a shared library knows its own).
function(bittern_system_library target name)
  if(TARGET ${target})
    return()
  endif()
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  find_library(BITTERN_${name}_ARCHIVE lib${name}.a)
  find_library(BITTERN_${name}_SHARED ${name})
  mark_as_advanced(BITTERN_${name}_ARCHIVE BITTERN_${name}_SHARED)
  if(bittern_static AND BITTERN_${name}_ARCHIVE)
    target_link_libraries(${target} INTERFACE "${BITTERN_${name}_ARCHIVE}")
    foreach(needed IN LISTS ARGN)
      bittern_system_library(bittern_system_${needed} ${needed})
      target_link_libraries(${target} INTERFACE bittern_system_${needed})
    endforeach()
  elseif(BITTERN_${name}_SHARED)
    target_link_libraries(${target} INTERFACE "${BITTERN_${name}_SHARED}")
  else()
    message(FATAL_ERROR "lib${name} was not found; run scripts/setup.sh, which installs it")
  endif()
endfunction()

# --- Targets ----------------------------------------------------------------------------------------------------

# bittern_add_folders(<folder> ...): adds each folder that has a CMakeLists.txt and passes BITTERN_ONLY, in order.
function(bittern_add_folders)
  set(names "")
  foreach(folder IN LISTS ARGN)
    get_filename_component(name "${folder}" NAME)
    list(APPEND names ${name})
    if(BITTERN_ONLY AND NOT name IN_LIST BITTERN_ONLY)
      continue()
    elseif((name STREQUAL "tests" AND NOT BITTERN_TESTS) OR (name STREQUAL "bench" AND NOT BITTERN_BENCH))
      continue()
    elseif(EXISTS "${PROJECT_SOURCE_DIR}/${folder}/CMakeLists.txt")
      add_subdirectory("${folder}")
    endif()
  endforeach()
  foreach(name IN LISTS BITTERN_ONLY)
    if(NOT name IN_LIST names)
      message(FATAL_ERROR "BITTERN_ONLY names '${name}'; the folders are: ${names}")
    endif()
  endforeach()
endfunction()

# bittern_library(<folder> [SUBDIRS <dir> ...] [EXCLUDE <file> ...] [DEPENDS <folder> ...] [SYSTEM <library> ...])
# Declares the static library bittern_<folder> (alias bittern::<folder>) from the *.cpp of the folder and of SUBDIRS.
# DEPENDS are folders of ours below it, SYSTEM third-party targets or libraries; both reach those who link it.
function(bittern_library folder)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SUBDIRS;EXCLUDE;DEPENDS;SYSTEM")
  bittern_no_leftovers(bittern_library "${arg_UNPARSED_ARGUMENTS}")
  bittern_glob(sources . ${arg_SUBDIRS})
  foreach(file IN LISTS arg_EXCLUDE)
    list(REMOVE_ITEM sources "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
  endforeach()
  add_library(bittern_${folder} STATIC ${sources})
  add_library(bittern::${folder} ALIAS bittern_${folder})
  bittern_link(bittern_${folder} PUBLIC "${arg_DEPENDS}" "${arg_SYSTEM}")
endfunction()

# bittern_program(<name> [SUBDIRS <dir> ...] [DEPENDS <folder> ...] [SYSTEM <library> ...])
# Declares an executable from the *.cpp of the folder; it is placed at the top of the build folder.
function(bittern_program name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SUBDIRS;DEPENDS;SYSTEM")
  bittern_no_leftovers(bittern_program "${arg_UNPARSED_ARGUMENTS}")
  bittern_glob(sources . ${arg_SUBDIRS})
  add_executable(${name} ${sources})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")
  bittern_link(${name} PRIVATE "${arg_DEPENDS}" "${arg_SYSTEM}")
endfunction()

# bittern_test(<name> [SOURCES <file> ...] [DEPENDS <folder> ...] [SYSTEM <library> ...] [LABELS <label> ...] [TIMEOUT <s>])
# Declares a GoogleTest executable and registers each of its tests with ctest as <name>.<suite>.<test>.
# SOURCES default to *_test.cpp of the current folder. A folder of DEPENDS that is not built skips the test, by name.
function(bittern_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT" "SOURCES;DEPENDS;SYSTEM;LABELS")
  bittern_no_leftovers(bittern_test "${arg_UNPARSED_ARGUMENTS}")
  foreach(dependency IN LISTS arg_DEPENDS)
    if(NOT TARGET bittern_${dependency})
      message(STATUS "Test ${name} is left out: bittern_${dependency} is not built")
      return()
    endif()
  endforeach()
  if(NOT arg_SOURCES)
    file(GLOB arg_SOURCES CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*_test.cpp")
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  include(GoogleTest)
  find_package(GTest REQUIRED)
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
  target_compile_definitions(${name} PRIVATE BITTERN_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  bittern_link(${name} PRIVATE "${arg_DEPENDS}" "${arg_SYSTEM};GTest::gtest_main")
  gtest_discover_tests(${name} TEST_PREFIX "${name}." DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}")
endfunction()

# --- Instruction sets -------------------------------------------------------------------------------------------

set(BITTERN_ISA_generic "")
set(BITTERN_ISA_avx2 -mavx2 -mfma -mf16c)
set(BITTERN_ISA_avx512 ${BITTERN_ISA_avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq)
set(BITTERN_ISA_avx512vnni ${BITTERN_ISA_avx512} -mavx512vnni)
set(BITTERN_ISA_avx512bf16 ${BITTERN_ISA_avx512vnni} -mavx512bf16)

# bittern_isa_sources(<folder> <isa> <file> ...)
# Compiles the files for one instruction set and adds them to the folder's library, declared before. <isa> is generic, avx2, avx512, avx512vnni
# or avx512bf16; the files see it as the macro BITTERN_ISA (an identifier), so one file may be listed for several.
# Such a file must define no weak symbol: the linker keeps one copy of those, and a copy compiled for AVX-512 that
# is called from elsewhere crashes an older CPU. A ctest step proves it (tools/check_isa_symbols.sh).
function(bittern_isa_sources folder isa)
  set(library bittern_${folder})
  if(NOT DEFINED BITTERN_ISA_${isa})
    message(FATAL_ERROR "bittern_isa_sources: unknown instruction set '${isa}'")
  endif()
  bittern_isa_detach(${library} ${ARGN})
  set(objects ${library}_isa_${isa})
  if(NOT TARGET ${objects})
    add_library(${objects} OBJECT)
    target_link_libraries(${objects} PRIVATE bittern_flags)
    target_compile_options(${objects} PRIVATE
      ${BITTERN_ISA_${isa}} -O3 -fno-exceptions -fno-rtti -fno-threadsafe-statics -Wno-psabi)
    target_compile_definitions(${objects} PRIVATE BITTERN_ISA=${isa})
    target_sources(${library} PRIVATE $<TARGET_OBJECTS:${objects}>)
    # Sanitizers and -O0 add weak symbols of their own; what is shipped is what is checked.
    if(BITTERN_TESTS AND NOT BITTERN_SANITIZE)
      add_test(NAME isa_symbols.${library}.${isa}
        COMMAND "${PROJECT_SOURCE_DIR}/tools/check_isa_symbols.sh" "${CMAKE_NM}" $<TARGET_OBJECTS:${objects}>
        COMMAND_EXPAND_LISTS)
    endif()
  endif()
  target_sources(${objects} PRIVATE ${ARGN})
endfunction()

# Takes files out of the sources a library got by globbing, since their instruction set compiles them.
function(bittern_isa_detach library)
  get_target_property(sources ${library} SOURCES)
  foreach(file IN LISTS ARGN)
    list(REMOVE_ITEM sources "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
  endforeach()
  set_target_properties(${library} PROPERTIES SOURCES "${sources}")
endfunction()

# --- Helpers of the functions above -----------------------------------------------------------------------------

function(bittern_glob out)
  set(patterns "")
  foreach(dir IN LISTS ARGN)
    get_filename_component(path "${CMAKE_CURRENT_SOURCE_DIR}/${dir}" ABSOLUTE)
    list(APPEND patterns "${path}/*.cpp")
  endforeach()
  file(GLOB sources CONFIGURE_DEPENDS ${patterns})
  set(${out} "${sources}" PARENT_SCOPE)
endfunction()

function(bittern_link target scope depends system)
  target_link_libraries(${target} ${scope} bittern_flags)
  foreach(dependency IN LISTS depends)
    target_link_libraries(${target} ${scope} bittern_${dependency})
  endforeach()
  target_link_libraries(${target} ${scope} ${system})
endfunction()

function(bittern_no_leftovers function leftovers)
  if(leftovers)
    message(FATAL_ERROR "${function}: unknown arguments '${leftovers}'")
  endif()
endfunction()
