// Which instruction set the CPU backend uses: the best one this machine has, unless options or BITTERN_ISA force a
// lower one. The levels are ordered; a level may use the kernels of every level below it.
#pragma once

#include <string>
#include <string_view>

#include "backend/cpu/kernels/kernels.h"

namespace bittern::cpu {

enum class IsaLevel : std::uint8_t { generic, avx2, avx512, avx512vnni, avx512bf16 };

std::string_view isa_name(IsaLevel level);
/// The level of that name; empty: the best of this machine. Error(invalid_argument) lists the names.
IsaLevel parse_isa(const std::string& name);
/// The best level of this machine.
IsaLevel best_isa();
/// `wanted` names a level, or is empty for BITTERN_ISA or else the best. Error(invalid_argument) lists the names for
/// an unknown one; Error(unsupported) when the machine lacks it.
IsaLevel choose_isa(const std::string& wanted);
/// The kernels shared by all levels with the same registers (avx512vnni and avx512bf16 use avx512's).
const KernelTable& kernel_table(IsaLevel level);
const W8A8Table& w8a8_table(IsaLevel level);

}  // namespace bittern::cpu
