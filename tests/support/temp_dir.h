// A directory for one test, removed with everything in it when the test ends.
#pragma once

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>

namespace bittern::testing {

class TempDir {
 public:
  TempDir() : path_(std::filesystem::temp_directory_path() / unique_name()) {
    std::filesystem::create_directories(path_);
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  static std::string unique_name() {
    static std::atomic<int> count{0};
    return "bittern-test-" + std::to_string(::getpid()) + "-" + std::to_string(count++);
  }

  std::filesystem::path path_;
};

}  // namespace bittern::testing
