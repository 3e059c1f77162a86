# Toolchain file: @gnu_prefix@gcc for @target@.
#   cmake -B build --toolchain cmake/gcc.cmake
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR @target@)
set(CMAKE_C_COMPILER @gnu_prefix@gcc)
set(CMAKE_C_FLAGS_INIT "@gnu_flags@")
set(CMAKE_EXE_LINKER_FLAGS_INIT "@gnu_flags@")
# A program would need a linker script; a library does to try the compiler.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
