// The ladder of instruction sets and what each needs of the CPU.
#include "backend/cpu/isa.h"

#include <bittern/error.h>

#include <array>
#include <cstdlib>
#include <vector>

#include "base/strings.h"
#include "base/sysinfo.h"

namespace bittern::cpu {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"generic", "avx2", "avx512", "avx512vnni", "avx512bf16"};

bool machine_has(IsaLevel level) {
  const CpuFeatures& f = cpu_features();
  switch (level) {
    case IsaLevel::generic: return true;
    case IsaLevel::avx2: return f.avx2 && f.fma && f.f16c;
    case IsaLevel::avx512: return machine_has(IsaLevel::avx2) && f.avx512f && f.avx512bw && f.avx512vl && f.avx512dq;
    case IsaLevel::avx512vnni: return machine_has(IsaLevel::avx512) && f.avx512_vnni;
    case IsaLevel::avx512bf16: return machine_has(IsaLevel::avx512vnni) && f.avx512_bf16;
  }
  return false;
}

std::string all_names() { return join(std::vector<std::string>(kNames.begin(), kNames.end()), ", "); }

}  // namespace

std::string_view isa_name(IsaLevel level) { return kNames[static_cast<std::size_t>(level)]; }

IsaLevel best_isa() {
  for (int level = static_cast<int>(kNames.size()) - 1; level > 0; --level) {
    if (machine_has(static_cast<IsaLevel>(level))) return static_cast<IsaLevel>(level);
  }
  return IsaLevel::generic;
}

IsaLevel choose_isa(const std::string& wanted) {
  std::string name = wanted;
  if (name.empty()) {
    const char* forced = std::getenv("BITTERN_ISA");
    if (forced == nullptr || *forced == '\0') return best_isa();
    name = forced;
  }
  const IsaLevel level = parse_isa(name);
  if (machine_has(level)) return level;
  throw Error(ErrorCode::unsupported, "this CPU does not have the instruction set '" + name + "'",
              "the best it has is " + std::string(isa_name(best_isa())));
}

IsaLevel parse_isa(const std::string& name) {
  if (name.empty()) return best_isa();
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<IsaLevel>(i);
  }
  throw Error(ErrorCode::invalid_argument, "there is no instruction set '" + name + "'",
              "the names are " + all_names());
}

const KernelTable& kernel_table(IsaLevel level) {
#if defined(__x86_64__)
  if (level >= IsaLevel::avx512) return *kernel_table_avx512();
  if (level == IsaLevel::avx2) return *kernel_table_avx2();
#endif
  static_cast<void>(level);
  return *kernel_table_generic();
}

const W8A8Table& w8a8_table(IsaLevel level) {
#if defined(__x86_64__)
  if (level >= IsaLevel::avx512vnni) return *w8a8_table_avx512vnni();
  if (level >= IsaLevel::avx512) return *w8a8_table_avx512();
  if (level == IsaLevel::avx2) return *w8a8_table_avx2();
#endif
  static_cast<void>(level);
  return *w8a8_table_generic();
}

}  // namespace bittern::cpu
