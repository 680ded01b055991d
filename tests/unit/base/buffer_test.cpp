// AlignedBuffer: zeros, alignment, moves, huge pages, impossible sizes.
#include "base/buffer.h"

#include <algorithm>
#include <cstdint>

#include "unit/base/test_support.h"

namespace bittern {
namespace {

TEST(AlignedBuffer, IsZeroedAlignedAndWritable) {
  for (auto pages : {AlignedBuffer::Pages::normal, AlignedBuffer::Pages::huge}) {
    for (size_t bytes : {size_t{1}, size_t{63}, size_t{64}, size_t{4097}, size_t{1} << 20, (size_t{5} << 20) + 3}) {
      AlignedBuffer buffer(bytes, pages);
      ASSERT_EQ(buffer.size(), bytes);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % AlignedBuffer::kAlignment, 0u);
      const auto all = buffer.as<unsigned char>();
      EXPECT_TRUE(std::all_of(all.begin(), all.end(), [](unsigned char c) { return c == 0; }));
      std::fill(all.begin(), all.end(), 0xab);
    }
  }
}

TEST(AlignedBuffer, HugeBuffersStartOnAHugePage) {
  AlignedBuffer buffer(size_t{7} << 20, AlignedBuffer::Pages::huge);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % AlignedBuffer::kHugePage, 0u);
  EXPECT_FALSE(AlignedBuffer(100, AlignedBuffer::Pages::huge).huge_pages());
}

TEST(AlignedBuffer, MovesLeaveTheSourceEmpty) {
  AlignedBuffer a(100);
  a.as<int>()[3] = 42;
  AlignedBuffer b(std::move(a));
  EXPECT_TRUE(a.empty());
  EXPECT_EQ(a.data(), nullptr);
  a = std::move(b);
  EXPECT_EQ(a.as<int>()[3], 42);
  EXPECT_EQ(a.as<int>().size(), 25u);
  EXPECT_TRUE(b.empty());
  AlignedBuffer& self = a;
  a = std::move(self);
  EXPECT_EQ(a.as<int>()[3], 42);
}

TEST(AlignedBuffer, ImpossibleSizesAreOutOfMemory) {
  for (size_t bytes : {SIZE_MAX, SIZE_MAX / 2, size_t{1} << 50}) {
    EXPECT_TRUE(has(error_of(ErrorCode::out_of_memory, [&] { AlignedBuffer buffer(bytes); }), "cannot allocate"));
  }
}

}  // namespace
}  // namespace bittern
