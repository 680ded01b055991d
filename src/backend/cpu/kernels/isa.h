// isa.h: names that carry the instruction set, so that one source compiled several times exports distinct functions.
#pragma once

#define BITTERN_ISA_JOIN2(name, isa) name##_##isa
#define BITTERN_ISA_JOIN(name, isa) BITTERN_ISA_JOIN2(name, isa)
/// BITTERN_ISA_NAME(f) is f_avx2, f_avx512, ... BITTERN_ISA comes from the build (cmake/Bittern.cmake).
#define BITTERN_ISA_NAME(name) BITTERN_ISA_JOIN(name, BITTERN_ISA)
