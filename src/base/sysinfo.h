// What this machine is and what this process may use of it: CPU features, cores, memory, container limits included.
// It reads /proc, cgroups and cpuid; it measures nothing (bittern bench does).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bittern {

/// Instruction sets that both the CPU has and the operating system has enabled (xgetbv).
struct CpuFeatures {
  bool avx2 = false;
  bool fma = false;
  bool f16c = false;
  bool avx512f = false;
  bool avx512bw = false;
  bool avx512vl = false;
  bool avx512dq = false;
  bool avx512_vnni = false;
  bool avx512_bf16 = false;
  bool avx_vnni = false;
  bool amx_tile = false;
  bool amx_int8 = false;
  bool amx_bf16 = false;

  /// The names of those present, e.g. {"avx2", "fma", "f16c"}.
  std::vector<std::string> names() const;
};

/// Features of the CPU this runs on, found once.
const CpuFeatures& cpu_features();
/// "AMD EPYC 9B14" as /proc/cpuinfo has it; "unknown" without one.
std::string cpu_model_name();

/// Cores this process may use at once: its affinity mask, bounded by the cgroup's CPU quota (rounded up). At least 1.
int usable_cores();

struct MemoryInfo {
  uint64_t total = 0;      // bytes this process may use at most: physical memory or the cgroup's limit
  uint64_t available = 0;  // bytes still free for it without swapping, as far as the kernel can tell
};
MemoryInfo memory_info();

/// Bytes of physical memory that this process holds now, and held at its peak.
uint64_t resident_bytes();
uint64_t peak_resident_bytes();

/// What is resident, by kind: memory of the process's own, and pages of mapped files, which processes share.
struct ResidentParts {
  uint64_t own = 0;
  uint64_t mapped = 0;
};
ResidentParts resident_parts();
/// Seconds since this program began to run.
double process_seconds();

namespace detail {
// The parsing parts, on their own so that tests can feed them the files of other machines.
/// Whole cores of a cgroup v2 "cpu.max" ("150000 100000" -> 2); 0 when unlimited ("max 100000") or malformed.
int cores_of_cpu_max(const std::string& text);
/// Bytes of a field of /proc/meminfo or /proc/self/status, both "Name:   123 kB"; 0 when missing.
uint64_t kib_field(const std::string& text, const std::string& name);
}  // namespace detail

}  // namespace bittern
