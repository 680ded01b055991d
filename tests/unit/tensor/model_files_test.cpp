// Files of a checkpoint in a directory and in memory.
#include "tensor/model_files.h"

#include <gtest/gtest.h>

#include <fstream>

#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace bittern {
namespace {

namespace fs = std::filesystem;

void write(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

TEST(ModelFilesTest, DirectoryListsAndMaps) {
  testing::TempDir dir;
  write(dir.path() / "config.json", "{}");
  write(dir.path() / "a.safetensors", "abc");
  write(dir.path() / "empty", "");
  fs::create_directory(dir.path() / "folder");
  fs::create_symlink("a.safetensors", dir.path() / "link");
  fs::create_symlink("nowhere", dir.path() / "dangling");
  const auto files = ModelFiles::from_directory(dir.path());
  EXPECT_EQ(files->list(), (std::vector<std::string>{"a.safetensors", "config.json", "empty", "link"}));
  EXPECT_EQ(files->require("a.safetensors").text(), "abc");
  EXPECT_EQ(files->require("link").text(), "abc") << "hub caches are made of links";
  EXPECT_EQ(files->require("empty").bytes.size(), 0u);
  EXPECT_FALSE(files->find("missing"));
  EXPECT_FALSE(files->find("dangling"));
  EXPECT_ERROR(ErrorCode::io, "folder", files->find("folder"));
  EXPECT_ERROR(ErrorCode::not_found, "tokenizer.json", files->require("tokenizer.json"));
}

TEST(ModelFilesTest, BytesOutliveTheFiles) {
  testing::TempDir dir;
  write(dir.path() / "x", "still here");
  FileBytes bytes = ModelFiles::from_directory(dir.path())->require("x");
  fs::remove(dir.path() / "x");
  EXPECT_EQ(bytes.text(), "still here");
}

TEST(ModelFilesTest, NamesCannotLeaveTheDirectory) {
  testing::TempDir dir;
  write(dir.path() / "secret", "s");
  fs::create_directory(dir.path() / "model");
  const auto files = ModelFiles::from_directory(dir.path() / "model");
  using namespace std::string_view_literals;
  for (std::string_view name : {"../secret"sv, "/etc/passwd"sv, ".."sv, "."sv, ""sv, "a\\b"sv, "a\0b"sv}) {
    EXPECT_ERROR(ErrorCode::invalid_argument, "not a plain file name", files->find(name));
  }
}

TEST(ModelFilesTest, NotADirectory) {
  testing::TempDir dir;
  write(dir.path() / "file", "x");
  EXPECT_ERROR(ErrorCode::not_found, "no such directory", ModelFiles::from_directory(dir.path() / "nope"));
  EXPECT_ERROR(ErrorCode::not_found, "not a directory", ModelFiles::from_directory(dir.path() / "file"));
}

TEST(ModelFilesTest, Embedded) {
  const std::string b = "bytes";
  const auto files = ModelFiles::from_embedded("embedded:mini", {{"b", std::as_bytes(std::span(b))}, {"a", {}}});
  EXPECT_EQ(files->list(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(files->require("b").text(), "bytes");
  EXPECT_EQ(files->require("b").path, "embedded:mini/b");
  EXPECT_ERROR(ErrorCode::not_found, "embedded:mini has no c", files->require("c"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "not a plain file name", files->find("../b"));
}

}  // namespace
}  // namespace bittern
