// What the tests of text share: checkpoints as maps of file names to bytes, and the recorded references.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <utility>

#include "base/json.h"
#include "support/shared_data.h"
#include "text/tokenizer.h"

namespace bittern::text::testing {

using Files = std::map<std::string, std::string, std::less<>>;

/// Reads from the map; the map is copied.
inline FileReader reader(Files files) {
  return [files = std::move(files)](std::string_view name) -> std::optional<std::string> {
    const auto found = files.find(name);
    return found == files.end() ? std::nullopt : std::optional(found->second);
  };
}

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The files of a folder, read now.
inline FileReader folder_reader(const std::filesystem::path& folder) {
  Files files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors" && entry.is_regular_file()) {
      files[entry.path().filename().string()] = read_text(entry.path());
    }
  }
  return reader(std::move(files));
}

inline std::filesystem::path source_path(const std::string& relative) {
  return std::filesystem::path(BITTERN_SOURCE_DIR) / relative;
}

inline Json golden(const std::string& name) { return read_json_file(source_path("tests/golden/text/" + name)); }

/// A reference whose objects keep their order, as template contexts need.
inline OrderedJson ordered_json(const std::filesystem::path& path) { return OrderedJson::parse(read_text(path)); }

/// A byte-level tokenizer without merges: every byte is a token (ids 0-255 in the order of the bytes' spellings), and
/// after them <|im_start|> 256, <|im_end|> 257 and </think> 258, of which the last is not special.
inline std::string byte_tokenizer_json() {
  Json vocab = Json::object();
  int others = 0;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    const int code = printable ? byte : 0x100 + others++;
    std::string spelling;
    if (code < 0x80) {
      spelling += static_cast<char>(code);
    } else {
      spelling += static_cast<char>(0xC0 | (code >> 6));
      spelling += static_cast<char>(0x80 | (code & 0x3F));
    }
    vocab[spelling] = byte;
  }
  Json added = Json::array();
  for (const auto& [id, content] : {std::pair{256, "<|im_start|>"}, {257, "<|im_end|>"}, {258, "</think>"}}) {
    added.push_back({{"id", id},
                     {"content", content},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", id != 258}});
  }
  const Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  return Json({{"version", "1.0"},
               {"added_tokens", added},
               {"normalizer", nullptr},
               {"pre_tokenizer", bytes},
               {"post_processor", nullptr},
               {"decoder", bytes},
               {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}}})
      .dump();
}

/// Llama 2's tokenizer.json, repaired as tools/make_text_golden.py explains.
inline std::string llama2_json() {
  Json document = read_json_file(bittern::testing::shared_data("tokenizers/llama2/tokenizer.json"));
  Json vocab = Json::object();
  for (const auto& [piece, id] : document["model"]["vocab"].items()) {
    std::string repaired;
    for (const char c : piece) repaired += c == ' ' ? "\u00a0" : std::string(1, c);
    vocab[repaired] = id;
  }
  document["model"]["vocab"] = vocab;
  const std::map<std::string, std::string> merges = {
      {"   ", "\u00a0 \u00a0"}, {"     ", "\u00a0\u00a0 \u00a0\u00a0"}, {"\u2581  ", "\u2581 \u00a0"}};
  for (Json& merge : document["model"]["merges"]) {
    if (const auto found = merges.find(merge); found != merges.end()) merge = found->second;
  }
  return document.dump();
}

}  // namespace bittern::text::testing
