// FileLock: one holder, also among processes, and none after a kill.
#include "base/file_lock.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace bittern {
namespace {

using testing::TempDir;

TEST(FileLock, RefusesTheSecondAndIsFreeAfterTheFirst) {
  const TempDir dir;
  const auto path = dir.path() / "folder" / "a.lock";
  {
    const auto first = FileLock::try_lock(path);
    ASSERT_TRUE(first);
    EXPECT_EQ(FileLock::holder(path), std::to_string(getpid()));
    EXPECT_FALSE(FileLock::try_lock(path));
    EXPECT_TRUE(FileLock::try_lock(dir.path() / "another.lock"));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(FileLock::try_lock(path));
}

TEST(FileLock, MovesWithItsHolder) {
  const TempDir dir;
  auto first = FileLock::try_lock(dir.path() / "a.lock");
  ASSERT_TRUE(first);
  {
    const FileLock second = std::move(*first);
    first.reset();
    EXPECT_FALSE(FileLock::try_lock(dir.path() / "a.lock"));
  }
  EXPECT_TRUE(FileLock::try_lock(dir.path() / "a.lock"));
}

TEST(FileLock, AKilledHolderLeavesNone) {
  const TempDir dir;
  const auto path = dir.path() / "a.lock";
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto lock = FileLock::try_lock(path);
    const char byte = lock ? 'y' : 'n';
    if (write(ready[1], &byte, 1) != 1) _exit(1);
    while (true) pause();
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, 'y');
  EXPECT_FALSE(FileLock::try_lock(path));
  EXPECT_EQ(FileLock::holder(path), std::to_string(child));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(std::filesystem::exists(path)) << "the kill left the file: the test shows nothing";
  EXPECT_TRUE(FileLock::try_lock(path));
  close(ready[0]), close(ready[1]);
}

TEST(FileLock, NamesAFolderThatCannotBeMade) {
  EXPECT_ERROR(ErrorCode::io, "/proc/none", FileLock::try_lock("/proc/none/a.lock"));
}

}  // namespace
}  // namespace bittern
