// MmapFile, AtomicFile and AtomicDirectory: contents, errors that name the path, and what is left after a failure.
#include <fcntl.h>

#include <cstring>
#include <stdexcept>

#include "base/atomic_file.h"
#include "base/mmap_file.h"
#include "unit/base/test_support.h"

namespace bittern {
namespace {
namespace fs = std::filesystem;

size_t entries(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(MmapFile, SeesTheContents) {
  const TempFolder folder;
  write_text(folder / "a", "hello");
  MmapFile file(folder / "a");
  EXPECT_EQ(file.size(), 5u);
  EXPECT_EQ(file.text(), "hello");
  file.advise(MmapFile::Access::sequential);
  file.advise(MmapFile::Access::will_need, 2, 100);
  file.advise(MmapFile::Access::random, 99, 1);
  MmapFile moved(std::move(file));
  EXPECT_EQ(moved.text(), "hello");
  EXPECT_EQ(moved.path(), folder / "a");
  EXPECT_EQ(file.size(), 0u);
}

TEST(MmapFile, AnEmptyFileIsEmpty) {
  const TempFolder folder;
  write_text(folder / "empty", "");
  EXPECT_EQ(MmapFile(folder / "empty").bytes().size(), 0u);
}

TEST(MmapFile, ErrorsNameThePath) {
  const TempFolder folder;
  EXPECT_TRUE(has(error_of(ErrorCode::not_found, [&] { MmapFile file(folder / "none"); }), (folder / "none").string()));
  EXPECT_TRUE(has(error_of(ErrorCode::io, [&] { MmapFile file(folder.path()); }), "not a regular file"));
}

TEST(AtomicFile, AppearsOnCommitWithAllThatWasWritten) {
  const TempFolder folder;
  std::string expected;
  {
    AtomicFile file(folder / "out");
    // Small writes, one larger than the buffer, small ones again.
    for (int i = 0; i < 1000; ++i) {
      file.write("line " + std::to_string(i) + "\n");
      expected += "line " + std::to_string(i) + "\n";
    }
    const std::string large((size_t{3} << 20) + 7, 'x');
    file.write(large);
    expected += large;
    file.write(std::string_view("end"));
    file.write(std::string_view());
    expected += "end";
    EXPECT_EQ(file.position(), expected.size());
    EXPECT_FALSE(fs::exists(folder / "out"));
    file.commit();
  }
  EXPECT_EQ(read_text(folder / "out"), expected);
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(AtomicFile, AnExceptionLeavesTheOldFile) {
  const TempFolder folder;
  write_text(folder / "out", "old");
  EXPECT_THROW(
      {
        AtomicFile file(folder / "out");
        file.write("new");
        throw std::runtime_error("stop");
      },
      std::runtime_error);
  EXPECT_EQ(read_text(folder / "out"), "old");
  EXPECT_EQ(entries(folder.path()), 1u);
  write_file_atomically(folder / "out", "new");
  EXPECT_EQ(read_text(folder / "out"), "new");
}

TEST(AtomicFile, ErrorsNameThePath) {
  const TempFolder folder;
  EXPECT_TRUE(has(error_of(ErrorCode::not_found, [&] { AtomicFile file(folder / "no/such/out"); }), "no/such/out"));
  fs::create_directory(folder / "taken");
  write_text(folder / "taken/x", "");
  EXPECT_TRUE(has(error_of(ErrorCode::io, [&] { write_file_atomically(folder / "taken", "x"); }), "taken"));
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(AtomicFile, AFullDiskIsAnError) {
  if (access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full";
  const TempFolder folder;
  AtomicFile file(folder / "out");
  // Point the open descriptor at a device that is always full.
  const int full = open("/dev/full", O_WRONLY);
  int target = -1;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (fs::read_symlink(entry, gone).string().find("out.partial-") != std::string::npos) {
      target = std::stoi(entry.path().filename().string());
    }
  }
  ASSERT_GE(target, 0);
  dup2(full, target);
  close(full);
  file.write(std::string_view("some text"));
  EXPECT_TRUE(has(error_of(ErrorCode::io, [&] { file.commit(); }), "No space left"));
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(AtomicDirectory, AppearsOnCommit) {
  const TempFolder folder;
  {
    AtomicDirectory out(folder / "model/");
    write_text(out.partial() / "a", "1");
    fs::create_directory(out.partial() / "sub");
    write_text(out.partial() / "sub/b", "2");
    EXPECT_FALSE(fs::exists(folder / "model"));
    out.commit();
  }
  EXPECT_EQ(read_text(folder / "model/sub/b"), "2");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(AtomicDirectory, IsRemovedWithoutCommit) {
  const TempFolder folder;
  { write_text(AtomicDirectory(folder / "model").partial() / "a", "1"); }
  EXPECT_EQ(entries(folder.path()), 0u);
}

TEST(AtomicDirectory, RefusesWhatItMustNotReplace) {
  const TempFolder folder;
  fs::create_directory(folder / "full");
  write_text(folder / "full/x", "old");
  write_text(folder / "file", "");
  using Existing = AtomicDirectory::Existing;
  const auto attempt = [&](const fs::path& path, Existing existing) {
    return error_of(ErrorCode::invalid_argument, [&] { AtomicDirectory out(path, existing); });
  };
  EXPECT_TRUE(has(attempt(folder / "full", Existing::refuse), "not empty"));
  EXPECT_TRUE(has(attempt(folder / "file", Existing::replace), "not a directory"));
  EXPECT_TRUE(has(attempt(fs::current_path(), Existing::replace), "working or home"));
  EXPECT_TRUE(has(attempt("/", Existing::replace), "working or home"));
  EXPECT_EQ(entries(folder.path()), 2u);
}

TEST(AtomicDirectory, ReplacesWhenAskedAndUsesEmptyOnes) {
  const TempFolder folder;
  fs::create_directory(folder / "model");
  for (const char* contents : {"first", "second"}) {
    AtomicDirectory out(folder / "model", AtomicDirectory::Existing::replace);
    write_text(out.partial() / contents, contents);
    out.commit();
  }
  EXPECT_EQ(entries(folder / "model"), 1u);
  EXPECT_EQ(read_text(folder / "model/second"), "second");
  EXPECT_EQ(entries(folder.path()), 1u);
}

}  // namespace
}  // namespace bittern
