// Cores, memory and process sizes from /proc and the cgroup (version 2, and version 1 where that is mounted).
#include "base/sysinfo.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/strings.h"

namespace bittern {
namespace {

// Set before main() runs, some milliseconds after the process was made.
const auto kProcessStart = std::chrono::steady_clock::now();

// The whole of a small file, or "" when it cannot be read (then the fact is simply not known).
std::string slurp(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream contents;
  contents << file.rdbuf();
  return contents.str();
}

// The first unsigned number in the text; 0 when there is none ("max").
uint64_t number_in(std::string_view text) {
  text = trim(text);
  uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// Folder of this process in a cgroup hierarchy: "" for version 2, else the name of the version 1 controller.
std::string cgroup_folder(const std::string& controller) {
  std::istringstream lines(slurp("/proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    const auto parts = split(line, ':');
    if (parts.size() < 3) continue;
    const auto names = split(parts[1], ',');
    const bool ours =
        controller.empty() ? parts[1].empty() : std::find(names.begin(), names.end(), controller) != names.end();
    if (ours) return std::string(parts[2] == "/" ? "" : parts[2]);
  }
  return "";
}

// A setting at the process's own cgroup and at every parent, since each of them limits; calls use(contents).
template <class Use>
void each_cgroup_level(const std::string& root, std::string folder, const std::string& file, Use use) {
  while (true) {
    const std::string contents = slurp(root + folder + "/" + file);
    if (!contents.empty()) use(contents);
    if (folder.empty()) return;
    folder.resize(folder.rfind('/') == std::string::npos ? 0 : folder.rfind('/'));
  }
}

int affinity_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::thread::hardware_concurrency());  // more than 1024 CPUs: cpu_set_t is too small
}

// Smallest quota in force, in whole cores; 0 when there is none.
int quota_cores() {
  int cores = 0;
  const auto tighten = [&](int limit) {
    if (limit > 0) cores = cores == 0 ? limit : std::min(cores, limit);
  };
  each_cgroup_level("/sys/fs/cgroup", cgroup_folder(""), "cpu.max",
                    [&](const std::string& text) { tighten(detail::cores_of_cpu_max(text)); });
  const std::string root = "/sys/fs/cgroup/cpu";
  const std::string folder = cgroup_folder("cpu");
  each_cgroup_level(root, folder, "cpu.cfs_quota_us", [&](const std::string& quota) {
    if (number_in(quota) == 0) return;  // "-1": unlimited
    const std::string period = slurp(root + folder + "/cpu.cfs_period_us");
    tighten(detail::cores_of_cpu_max(std::string(trim(quota)) + " " + (period.empty() ? "100000" : period)));
  });
  return cores;
}

struct CgroupMemory {
  uint64_t limit = 0;  // 0: none
  uint64_t available = 0;
};

// The tightest memory limit: for each level what is left below it, where reclaimable file pages count as free.
CgroupMemory cgroup_memory() {
  CgroupMemory memory;
  const auto tighten = [&](const std::string& root, const std::string& folder, const char* limit_file,
                           const char* used_file, const char* cache_key) {
    each_cgroup_level(root, folder, limit_file, [&](const std::string& text) {
      const uint64_t limit = number_in(text);
      constexpr uint64_t kNoLimit = uint64_t{1} << 60;  // version 1 writes a huge number for "none"
      if (limit == 0 || limit >= kNoLimit || (memory.limit != 0 && limit >= memory.limit)) return;
      const std::string stat = slurp(root + folder + "/memory.stat");
      const size_t at = stat.find(cache_key);
      const uint64_t cache = at == std::string::npos
                                 ? 0
                                 : number_in(std::string_view(stat).substr(at + std::string_view(cache_key).size()));
      const uint64_t used = number_in(slurp(root + folder + "/" + used_file));
      const uint64_t held = used > cache ? used - cache : 0;
      memory = {limit, limit > held ? limit - held : 0};
    });
  };
  tighten("/sys/fs/cgroup", cgroup_folder(""), "memory.max", "memory.current", "inactive_file ");
  tighten("/sys/fs/cgroup/memory", cgroup_folder("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes",
          "total_inactive_file ");
  return memory;
}

}  // namespace

int usable_cores() {
  const int quota = quota_cores();
  const int cores = affinity_cores();
  return std::max(1, quota > 0 ? std::min(cores, quota) : cores);
}

std::string cpu_model_name() {
  std::istringstream lines(slurp("/proc/cpuinfo"));
  for (std::string line; std::getline(lines, line);) {
    const size_t colon = line.find(':');
    if (colon != std::string::npos && trim(line.substr(0, colon)) == "model name") {
      return std::string(trim(std::string_view(line).substr(colon + 1)));
    }
  }
  return "unknown";
}

MemoryInfo memory_info() {
  const std::string text = slurp("/proc/meminfo");
  MemoryInfo info{detail::kib_field(text, "MemTotal"), detail::kib_field(text, "MemAvailable")};
  const CgroupMemory group = cgroup_memory();
  if (group.limit != 0 && group.limit < info.total) {
    info.total = group.limit;
    info.available = std::min(info.available, group.available);
  }
  return info;
}

uint64_t resident_bytes() { return detail::kib_field(slurp("/proc/self/status"), "VmRSS"); }
uint64_t peak_resident_bytes() { return detail::kib_field(slurp("/proc/self/status"), "VmHWM"); }

ResidentParts resident_parts() {
  const std::string status = slurp("/proc/self/status");
  return {detail::kib_field(status, "RssAnon"),
          detail::kib_field(status, "RssFile") + detail::kib_field(status, "RssShmem")};
}

double process_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - kProcessStart).count();
}

namespace detail {

int cores_of_cpu_max(const std::string& text) {
  const auto parts = split(trim(text), ' ');
  if (parts.size() != 2) return 0;
  const uint64_t quota = number_in(parts[0]);
  const uint64_t period = number_in(parts[1]);
  return quota == 0 || period == 0 ? 0 : static_cast<int>((quota + period - 1) / period);
}

uint64_t kib_field(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.compare(0, name.size() + 1, name + ":") != 0) continue;
    return number_in(std::string_view(line).substr(name.size() + 1)) * 1024;
  }
  return 0;
}

}  // namespace detail
}  // namespace bittern
