// What is put to the test: the CPU backend forced to each instruction set. One the machine lacks is skipped with the
// reason the backend itself gives.
#pragma once

#include <bittern/error.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace bittern::parity {

inline std::vector<std::string> all_isas() { return {"generic", "avx2", "avx512", "avx512vnni", "avx512bf16"}; }

inline BackendOptions cpu_options(const std::string& isa, int threads = 2, bool deterministic = false) {
  BackendOptions options;
  options.isa = isa;
  options.threads = threads;
  options.deterministic = deterministic;
  return options;
}

/// Null, with `reason` filled, when this machine cannot run it.
inline std::unique_ptr<Backend> try_cpu(const BackendOptions& options, std::string& reason) {
  try {
    return make_backend("cpu", options);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::unsupported) throw;
    reason = error.what();
    return nullptr;
  }
}

/// Names of the linear kernels a backend may choose, plus the fallback that must work for everything.
inline std::vector<std::string> linear_kernels(const Backend& backend) {
  std::set<std::string> names = {"dequantize"};
  for (const KernelChoice& choice : backend.kernel_choices()) {
    if (choice.operation.starts_with("linear")) names.insert(choice.kernel.substr(0, choice.kernel.find(' ')));
  }
  return {names.begin(), names.end()};
}

/// Fixture over instruction sets: `cpu` and `ref` are ready, or the test is skipped.
template <class Param>
class IsaFixture : public ::testing::TestWithParam<Param> {
 protected:
  void start(const BackendOptions& options) {
    std::string reason;
    cpu = try_cpu(options, reason);
    if (!cpu) GTEST_SKIP() << reason;
  }

  std::unique_ptr<Backend> ref = make_backend("ref", {});
  std::unique_ptr<Backend> cpu;
};

}  // namespace bittern::parity
