// Sets of runs of tokens.
#include "quant/generation_quality.h"

#include <algorithm>
#include <set>
#include <vector>

#include "base/check.h"

namespace bittern::quant {

double repeated_share(std::span<const std::int32_t> tokens, int length) {
  BITTERN_CHECK(length > 0);
  const auto run = static_cast<std::size_t>(length);
  if (tokens.size() < run) return 0;
  std::set<std::vector<std::int32_t>> seen;
  const std::size_t runs = tokens.size() - run + 1;
  for (std::size_t i = 0; i < runs; ++i)
    seen.insert(
        {tokens.begin() + static_cast<std::ptrdiff_t>(i), tokens.begin() + static_cast<std::ptrdiff_t>(i + run)});
  return static_cast<double>(runs - seen.size()) / static_cast<double>(runs);
}

std::int64_t common_prefix(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
  return std::ranges::mismatch(a, b).in1 - a.begin();
}

}  // namespace bittern::quant
