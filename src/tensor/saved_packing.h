// SavedPacking: a weight in the private layout of a backend, as plain bytes with what a reader must know to take them
// into use again. A workspace stores them (tensor/workspace.h); only the backend that made a layout understands it, so
// nothing here looks into the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/json.h"
#include "tensor/format.h"

namespace bittern {

/// Names a backend's layout. A layout that changes in any way gets a higher version.
struct PackingLayout {
  std::string name;  // "cpu-tiles16"; empty: none
  int version = 0;

  bool operator==(const PackingLayout&) const = default;
  /// "cpu-tiles16 version 1" for messages.
  std::string describe() const { return name + " version " + std::to_string(version); }
};

struct SavedPacking {
  PackingLayout layout;
  Format format;
  std::int64_t out = 0;
  std::int64_t in = 0;
  Json parameters = Json::object();  // the layout's own: flat, numbers, strings and booleans
  std::span<const std::byte> bytes;  // starts at a multiple of 64 bytes in memory
  /// As Weight::input_order; empty where columns are inputs in order.
  std::span<const std::int32_t> input_order;
  /// Owner of the memory behind both spans; null when that is the caller's business.
  std::shared_ptr<const void> keep;
};

}  // namespace bittern
