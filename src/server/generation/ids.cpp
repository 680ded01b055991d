// 96 bits from a generator that the operating system seeds once for each thread.
#include "server/generation/ids.h"

#include <fmt/core.h>

#include <random>

namespace bittern::server {

std::string random_id(std::string_view prefix) {
  thread_local std::mt19937_64 generator = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }();
  return fmt::format("{}{:016x}{:08x}", prefix, generator(), generator() >> 32);
}

}  // namespace bittern::server
