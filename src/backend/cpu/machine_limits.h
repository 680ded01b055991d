// What this machine can do at most, measured: reading memory in several streams per thread, and multiply-adds in
// registers. Every figure of a benchmark is stated as a fraction of these. Each limit is the best of several repeats,
// because other work on the machine only ever slows one down.
#pragma once

#include <vector>

#include "backend/cpu/isa.h"
#include "base/thread_pool.h"

namespace bittern::cpu {

struct StreamRate {
  int streams = 0;  // per thread
  double rate = 0;  // bytes per second, all threads
};

/// Operations per second of all threads; a multiply-add counts as two. 0: the level has no instruction for it.
struct ArithmeticLimits {
  double f32 = 0;
  double bf16 = 0;  // vdpbf16ps
  double int8 = 0;  // vpdpbusd
  /// The best of those that the level has.
  double best() const;
};

/// Reads a gibibyte, beyond most caches, in 1, 2, 4 and 8 streams per thread.
std::vector<StreamRate> measure_read(ThreadPool& pool, IsaLevel isa);
ArithmeticLimits measure_arithmetic(ThreadPool& pool, IsaLevel isa);

}  // namespace bittern::cpu
