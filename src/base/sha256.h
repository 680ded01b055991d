// SHA-256 (FIPS 180-4) of bytes fed in pieces: names the content of files in reports and provenance.
// Where the CPU has instructions for it they are used (1.2 GB/s), otherwise plain code (0.2 GB/s). Not for
// secrets.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace bittern {

class Sha256 {
 public:
  /// `hardware`: use the CPU's instructions where it has them.
  explicit Sha256(bool hardware = true);
  void update(std::span<const std::byte> bytes);
  void update(std::string_view text) { update(std::as_bytes(std::span(text))); }
  /// 64 hexadecimal digits. The object takes no more bytes afterwards.
  std::string finish();

 private:
  void blocks(const std::byte* bytes, std::size_t count);
  void block(const std::byte* bytes);

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> buffer_{};
  std::size_t buffered_ = 0;
  std::uint64_t length_ = 0;
  bool hardware_;
};

std::string sha256(std::string_view text);

}  // namespace bittern
