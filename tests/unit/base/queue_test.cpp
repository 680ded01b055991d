// BoundedQueue: order, bounds, closing, and many threads on both sides (also run under ThreadSanitizer).
#include "base/queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace bittern {
namespace {

TEST(BoundedQueue, KeepsOrderAndRefusesWhenFull) {
  BoundedQueue<int> queue(2);
  EXPECT_TRUE(queue.try_push(1));
  EXPECT_TRUE(queue.try_push(2));
  EXPECT_FALSE(queue.try_push(3));
  EXPECT_EQ(queue.size(), 2u);
  EXPECT_EQ(queue.pop(), 1);
  EXPECT_EQ(queue.try_pop(), 2);
  EXPECT_EQ(queue.try_pop(), std::nullopt);
}

TEST(BoundedQueue, ARefusedValueStaysWithItsOwner) {
  BoundedQueue<std::unique_ptr<int>> queue(1);
  auto first = std::make_unique<int>(1);
  auto second = std::make_unique<int>(2);
  EXPECT_TRUE(queue.try_push(std::move(first)));
  EXPECT_FALSE(queue.try_push(std::move(second)));
  ASSERT_NE(second, nullptr);
  queue.close();
  EXPECT_FALSE(queue.push(std::move(second)));
  EXPECT_EQ(*second, 2);
}

TEST(BoundedQueue, DrainsAfterClose) {
  BoundedQueue<int> queue(4);
  queue.push(1);
  queue.push(2);
  queue.close();
  queue.close();
  EXPECT_FALSE(queue.push(3));
  EXPECT_TRUE(queue.is_closed());
  EXPECT_FALSE(queue.is_finished());
  EXPECT_EQ(queue.pop(), 1);
  EXPECT_EQ(queue.pop_for(std::chrono::seconds(1)), 2);
  EXPECT_EQ(queue.pop(), std::nullopt);
  EXPECT_TRUE(queue.is_finished());
}

TEST(BoundedQueue, PopForGivesUp) {
  BoundedQueue<int> queue(1);
  EXPECT_EQ(queue.pop_for(std::chrono::milliseconds(5)), std::nullopt);
  EXPECT_FALSE(queue.is_finished());
}

TEST(BoundedQueue, CloseWakesWaitingReadersAndWriters) {
  BoundedQueue<int> empty(1), full(1);
  full.push(1);
  std::thread reader([&] { EXPECT_EQ(empty.pop(), std::nullopt); });
  std::thread writer([&] { EXPECT_FALSE(full.push(2)); });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  empty.close();
  full.close();
  reader.join();
  writer.join();
}

TEST(BoundedQueue, ManyWritersAndReadersLoseNothing) {
  constexpr int kThreads = 4, kEach = 2000;
  BoundedQueue<int> queue(8);
  std::vector<std::atomic<int>> seen(kThreads * kEach);
  std::vector<std::thread> readers, writers;
  for (int t = 0; t < kThreads; ++t) {
    readers.emplace_back([&] {
      while (auto item = queue.pop()) seen[static_cast<size_t>(*item)]++;
    });
    writers.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) ASSERT_TRUE(queue.push(t * kEach + i));
    });
  }
  for (auto& writer : writers) writer.join();
  queue.close();
  for (auto& reader : readers) reader.join();
  for (const auto& count : seen) ASSERT_EQ(count.load(), 1);
}

}  // namespace
}  // namespace bittern
