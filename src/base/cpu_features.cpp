// CPU features by cpuid, each only when xgetbv says that the operating system saves the registers it needs.
#include "base/sysinfo.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace bittern {
namespace {

#if defined(__x86_64__)

struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d) == 0) return {};
  return r;
}

bool bit(unsigned value, int index) { return ((value >> index) & 1u) != 0; }

// Extended control register 0: which register files the system saves on a context switch.
uint64_t xcr0() {
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

CpuFeatures detect() {
  CpuFeatures f;
  const Registers basic = cpuid(1, 0);
  if (!bit(basic.c, 27)) return f;  // OSXSAVE: without it xgetbv does not exist
  const uint64_t saved = xcr0();
  const bool ymm = (saved & 0x6) == 0x6;            // SSE and AVX state
  const bool zmm = ymm && (saved & 0xe0) == 0xe0;   // mask registers and both halves of ZMM state
  const bool tiles = (saved & 0x60000) == 0x60000;  // AMX tile configuration and data
  const Registers extended = cpuid(7, 0);
  const Registers extended1 = cpuid(7, 1);
  f.avx2 = ymm && bit(extended.b, 5);
  f.fma = ymm && bit(basic.c, 12);
  f.f16c = ymm && bit(basic.c, 29);
  f.avx_vnni = ymm && bit(extended1.a, 4);
  f.avx512f = zmm && bit(extended.b, 16);
  f.avx512dq = zmm && bit(extended.b, 17);
  f.avx512bw = zmm && bit(extended.b, 30);
  f.avx512vl = zmm && bit(extended.b, 31);
  f.avx512_vnni = zmm && bit(extended.c, 11);
  f.avx512_bf16 = zmm && bit(extended1.a, 5);
  f.amx_bf16 = tiles && bit(extended.d, 22);
  f.amx_tile = tiles && bit(extended.d, 24);
  f.amx_int8 = tiles && bit(extended.d, 25);
  return f;
}

#else

CpuFeatures detect() { return {}; }

#endif

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

std::vector<std::string> CpuFeatures::names() const {
  const std::pair<const char*, bool> all[] = {{"avx2", avx2},
                                              {"fma", fma},
                                              {"f16c", f16c},
                                              {"avx_vnni", avx_vnni},
                                              {"avx512f", avx512f},
                                              {"avx512bw", avx512bw},
                                              {"avx512vl", avx512vl},
                                              {"avx512dq", avx512dq},
                                              {"avx512_vnni", avx512_vnni},
                                              {"avx512_bf16", avx512_bf16},
                                              {"amx_tile", amx_tile},
                                              {"amx_int8", amx_int8},
                                              {"amx_bf16", amx_bf16}};
  std::vector<std::string> present;
  for (const auto& [name, has] : all) {
    if (has) present.emplace_back(name);
  }
  return present;
}

}  // namespace bittern
