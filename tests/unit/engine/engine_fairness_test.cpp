// EngineCore with several clients: who of the waiting line comes next.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "fake_model.h"

namespace bittern::engine {
namespace {

using testing::Harness;
using testing::limits_of;
using testing::make_request;

TEST(Fairness, ClientsTakeTurns) {
  Harness h(64, 4, limits_of(1, 16), 64);
  std::vector<std::shared_ptr<RequestChannel>> busy;
  for (int i = 0; i < 5; ++i) {
    Request request = make_request(4, 2, 1);
    request.sampling.ignore_eos = true;
    request.client = "busy";
    busy.push_back(h.submit(request));
  }
  h.step();  // the first of them runs
  Request request = make_request(4, 2, 2);
  request.client = "rare";
  auto rare = h.submit(request);
  const auto done = [](RequestChannel& channel) { return channel.progress().first_token.has_value(); };
  while (!done(*rare)) h.step();
  EXPECT_TRUE(done(*busy[0]));
  EXPECT_FALSE(done(*busy[1]));  // the next turn is not the busy client's
  h.run_until_idle();
}

// However many new clients come, whoever waits is passed by a bounded number of them.
TEST(Fairness, NewClientsCannotKeepOneWaitingForEver) {
  Harness h(64, 4, limits_of(1, 16), 64);
  Request request = make_request(4, 1, 1);
  std::shared_ptr<RequestChannel> last;
  for (int i = 0; i < 3; ++i) {
    request.client = "patient";
    last = h.submit(request);
  }
  int others = 0;
  while (!last->progress().first_token) {
    request.client = std::to_string(others++);
    h.submit(request);
    h.step();
    ASSERT_LT(others, 1500);
  }
}

}  // namespace
}  // namespace bittern::engine
