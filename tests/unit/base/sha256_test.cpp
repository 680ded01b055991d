// The standard's own examples, and pieces of every size against the whole.
#include "base/sha256.h"

#include <gtest/gtest.h>

namespace bittern {
namespace {

TEST(Sha256, StandardExamples) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, InstructionsAndPlainCodeAgree) {
  std::string text;
  for (int i = 0; i < 4096; ++i) text += static_cast<char>(i * 131 >> 3);
  for (const std::size_t length : {0, 1, 55, 56, 63, 64, 65, 119, 120, 127, 128, 1000, 4096}) {
    Sha256 instructions, plain(false);
    instructions.update(text.substr(0, length));
    plain.update(text.substr(0, length));
    EXPECT_EQ(instructions.finish(), plain.finish()) << length;
  }
  Sha256 plain(false);
  plain.update("abc");
  EXPECT_EQ(plain.finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256, PiecesAddUp) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += static_cast<char>(i * 7);
  for (std::size_t length = 0; length <= text.size(); length += 11) {
    for (std::size_t piece = 1; piece < 140; piece += 13) {
      Sha256 hash;
      for (std::size_t at = 0; at < length; at += piece) hash.update(text.substr(at, std::min(piece, length - at)));
      EXPECT_EQ(hash.finish(), sha256(text.substr(0, length)));
    }
  }
}

}  // namespace
}  // namespace bittern
