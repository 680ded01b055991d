// The embedded model's files through a real load: the plan is what the load then takes, and a limit shrinks the cache.
#include "server/checkpoint_source.h"

#include <gtest/gtest.h>

namespace bittern::server {
namespace {

std::unique_ptr<ModelSource> mini(std::int64_t kv_cache_bytes = 0) {
  return make_checkpoint_source([kv_cache_bytes] {
    OpenedModel opened;
    opened.files = ModelFiles::from_directory(std::string(BITTERN_SOURCE_DIR) + "/models/mini");
    opened.options.device.threads = 1;
    opened.options.engine.kv_cache_bytes = kv_cache_bytes;
    return opened;
  });
}

TEST(CheckpointSourceTest, ThePlanIsWhatTheLoadTakes) {
  const auto source = mini();
  const ModelNeeds planned = source->plan(0);
  const SourcedModel loaded = source->load([](double) {});
  EXPECT_EQ(loaded.needs.memory, planned.memory);
  EXPECT_EQ(loaded.needs.context, planned.context);
  EXPECT_EQ(loaded.needs.context, 1024);
  EXPECT_EQ(source->plan(0).memory, planned.memory);
}

TEST(CheckpointSourceTest, ALimitShrinksTheCache) {
  const std::int64_t all = mini()->plan(0).memory;
  const std::int64_t limit = all - (std::int64_t{8} << 20);
  const auto source = mini();
  EXPECT_LE(source->plan(limit).memory, limit);
  const SourcedModel loaded = source->load([](double) {});
  EXPECT_LE(loaded.needs.memory, limit);
  EXPECT_GT(loaded.needs.memory, limit / 2);
}

TEST(CheckpointSourceTest, RefusesALimitThatCannotHold) {
  try {
    mini()->plan(std::int64_t{1} << 20);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
  }
  const std::int64_t kv = std::int64_t{16} << 20;
  EXPECT_THROW(mini(kv)->plan(mini(kv)->plan(0).memory - 1), Error) << "a cache of a given size is not shrunk";
}

}  // namespace
}  // namespace bittern::server
