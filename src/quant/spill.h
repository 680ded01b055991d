// Spill: rows of f32 on disk in a file without a name, which the system removes with the last process that has it open:
// a killed run leaves nothing. It is written from front to back and read at any place.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

namespace bittern::quant {

class Spill {
 public:
  /// Makes the file in `folder`. Error(io) says what failed.
  explicit Spill(const std::filesystem::path& folder);
  ~Spill();
  Spill(const Spill&) = delete;
  Spill& operator=(const Spill&) = delete;

  void append(std::span<const float> values);
  /// Fills `values` from value number `first` on, all of which must have been appended.
  void read(std::int64_t first, std::span<float> values) const;
  /// Values appended so far.
  std::int64_t size() const { return size_; }

 private:
  std::filesystem::path folder_;
  int fd_ = -1;
  std::int64_t size_ = 0;
};

}  // namespace bittern::quant
