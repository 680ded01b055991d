// System facts: parsers on texts of other machines, and plausibility on this one.
#include "base/sysinfo.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <vector>

namespace bittern {
namespace {

TEST(SysInfo, CpuMaxRoundsUp) {
  EXPECT_EQ(detail::cores_of_cpu_max("max 100000\n"), 0);
  EXPECT_EQ(detail::cores_of_cpu_max("150000 100000\n"), 2);
  EXPECT_EQ(detail::cores_of_cpu_max("100000 100000"), 1);
  EXPECT_EQ(detail::cores_of_cpu_max("50000 100000"), 1);
  EXPECT_EQ(detail::cores_of_cpu_max(""), 0);
  EXPECT_EQ(detail::cores_of_cpu_max("nonsense"), 0);
}

TEST(SysInfo, KibFields) {
  const std::string text = "MemTotal:       24580000 kB\nMemAvailable:     123 kB\n";
  EXPECT_EQ(detail::kib_field(text, "MemTotal"), uint64_t{24580000} * 1024);
  EXPECT_EQ(detail::kib_field(text, "MemAvailable"), uint64_t{123} * 1024);
  EXPECT_EQ(detail::kib_field(text, "Mem"), 0u);
}

TEST(SysInfo, CoresFollowTheAffinityMask) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  EXPECT_GE(usable_cores(), 1);
  EXPECT_LE(usable_cores(), CPU_COUNT(&before));
  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_EQ(usable_cores(), 1);
  sched_setaffinity(0, sizeof(before), &before);
}

TEST(SysInfo, MemoryIsPlausible) {
  const MemoryInfo memory = memory_info();
  EXPECT_GT(memory.total, uint64_t{64} << 20);
  EXPECT_LE(memory.available, memory.total);
  EXPECT_GT(resident_bytes(), 1u << 20);
  EXPECT_GE(peak_resident_bytes(), resident_bytes() / 2);
  const uint64_t before = resident_bytes();
  std::vector<char> block(64 << 20, 1);
  EXPECT_GT(resident_bytes(), before + (48u << 20));
  EXPECT_EQ(block[5], 1);
}

TEST(SysInfo, FeaturesAgreeWithTheCompilersDetection) {
#if defined(__x86_64__)
  const CpuFeatures& f = cpu_features();
  EXPECT_EQ(f.avx2, __builtin_cpu_supports("avx2") != 0);
  EXPECT_EQ(f.fma, __builtin_cpu_supports("fma") != 0);
  EXPECT_EQ(f.f16c, __builtin_cpu_supports("f16c") != 0);
  EXPECT_EQ(f.avx512f, __builtin_cpu_supports("avx512f") != 0);
  EXPECT_EQ(f.avx512bw, __builtin_cpu_supports("avx512bw") != 0);
  EXPECT_EQ(f.avx512vl, __builtin_cpu_supports("avx512vl") != 0);
  EXPECT_EQ(f.avx512dq, __builtin_cpu_supports("avx512dq") != 0);
  EXPECT_EQ(f.avx512_vnni, __builtin_cpu_supports("avx512vnni") != 0);
  EXPECT_EQ(f.avx512_bf16, __builtin_cpu_supports("avx512bf16") != 0);
  const auto names = f.names();
  EXPECT_EQ(std::count(names.begin(), names.end(), "avx2"), f.avx2 ? 1 : 0);
#else
  EXPECT_TRUE(cpu_features().names().empty());
#endif
  EXPECT_FALSE(cpu_model_name().empty());
}

}  // namespace
}  // namespace bittern
