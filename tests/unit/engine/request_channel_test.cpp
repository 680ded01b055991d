// RequestChannel and Inbox: what a reader sees, in which order, and what the engine thread is told.
#include "engine/request_channel.h"

#include <gtest/gtest.h>

#include <thread>

#include "engine/inbox.h"
#include "support/expect_error.h"

namespace bittern::engine {
namespace {

using namespace std::chrono_literals;

Request request_of(int n) {
  Request request;
  request.prompt = {1};
  request.n = n;
  return request;
}

TokenEvent token(std::int32_t id) {
  TokenEvent event;
  event.token = id;
  return event;
}

TokenEvent end(int sample, FinishReason reason = FinishReason::length) {
  TokenEvent event;
  event.sample = sample;
  event.finish = reason;
  return event;
}

std::optional<TokenEvent> poll(RequestChannel& channel, bool& timed_out) {
  return channel.next(std::chrono::steady_clock::now(), timed_out);
}

TEST(RequestChannel, DeliversInOrderAcrossGrowth) {
  RequestChannel channel(request_of(1), 5);
  std::int32_t pushed = 0, read = 0;
  bool timed_out = false;
  for (int round = 0; round < 200; ++round) {  // three in, two out: wraps and grows again and again
    for (int i = 0; i < 3; ++i) channel.push(token(pushed++));
    for (int i = 0; i < 2; ++i) ASSERT_EQ(poll(channel, timed_out)->token, read++);
  }
  while (read < pushed) ASSERT_EQ(poll(channel, timed_out)->token, read++);
  EXPECT_FALSE(poll(channel, timed_out).has_value());
  EXPECT_TRUE(timed_out);
}

TEST(RequestChannel, EndsWhenEverySampleHasEndedAndAllIsRead) {
  RequestChannel channel(request_of(2), 5);
  bool timed_out = false;
  channel.push(end(1));
  EXPECT_EQ(poll(channel, timed_out)->sample, 1);
  EXPECT_FALSE(poll(channel, timed_out).has_value());
  EXPECT_TRUE(timed_out);
  channel.push(end(0));
  EXPECT_EQ(poll(channel, timed_out)->sample, 0);
  EXPECT_FALSE(channel.next(std::nullopt, timed_out).has_value());  // would block for ever if it did not know
  EXPECT_FALSE(timed_out);
}

TEST(RequestChannel, WakesAReaderThatWaits) {
  RequestChannel channel(request_of(1), 5);
  std::thread writer([&] {
    std::this_thread::sleep_for(20ms);
    channel.push(token(3));
    channel.push(end(0));
  });
  bool timed_out = false;
  EXPECT_EQ(channel.next(std::nullopt, timed_out)->token, 3);
  EXPECT_EQ(channel.next(std::nullopt, timed_out)->finish, FinishReason::length);
  EXPECT_FALSE(channel.next(std::nullopt, timed_out).has_value());
  writer.join();
}

TEST(RequestChannel, CallsTheListenerForWhatIsThereAndWhatComes) {
  RequestChannel channel(request_of(1), 5);
  int calls = 0;
  channel.on_events([&] { ++calls; });
  EXPECT_EQ(calls, 0);
  channel.push(token(7));
  EXPECT_EQ(calls, 1);
  channel.on_events([&] { calls += 10; });  // an event waits, so it is told at once
  EXPECT_EQ(calls, 11);
  channel.push(end(0));
  EXPECT_EQ(calls, 21);
}

TEST(RequestChannel, CallsNoListenerOnceAbandoned) {
  RequestChannel channel(request_of(1), 5);
  int calls = 0;
  channel.on_events([&] { ++calls; });
  channel.abandon();
  channel.push(end(0));
  EXPECT_EQ(calls, 0);
}

TEST(RequestChannel, GivesUpAtTheDeadline) {
  RequestChannel channel(request_of(1), 5);
  bool timed_out = false;
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(channel.next(start + 30ms, timed_out).has_value());
  EXPECT_TRUE(timed_out);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 30ms);
}

TEST(RequestChannel, CancelsOneSampleOrAll) {
  RequestChannel channel(request_of(3), 5);
  channel.request_cancel(1);
  EXPECT_FALSE(channel.cancel_requested(0));
  EXPECT_TRUE(channel.cancel_requested(1));
  channel.request_cancel(-1);
  EXPECT_TRUE(channel.cancel_requested(0));
  EXPECT_TRUE(channel.cancel_requested(2));
}

TEST(RequestChannel, AbandonedDropsEverythingAndAsksToCancel) {
  RequestChannel channel(request_of(1), 5);
  channel.push(token(1));
  channel.abandon();
  channel.push(token(2));
  EXPECT_TRUE(channel.cancel_requested(0));
  bool timed_out = false;
  EXPECT_FALSE(poll(channel, timed_out).has_value());
  EXPECT_TRUE(timed_out);
}

TEST(RequestChannel, PromptLogprobsAppearWhenPublished) {
  RequestChannel channel(request_of(1), 5);
  EXPECT_TRUE(channel.prompt_logprobs().empty());
  channel.publish_prompt_logprobs({token(4), token(5)});
  ASSERT_EQ(channel.prompt_logprobs().size(), 2u);
  EXPECT_EQ(channel.prompt_logprobs()[1].token, 5);
}

std::shared_ptr<RequestChannel> channel_of(int n) { return std::make_shared<RequestChannel>(request_of(n), 0); }

TEST(Inbox, RefusesWhenTheLineIsFullAndAcceptsAgain) {
  Inbox inbox(2);
  inbox.submit(channel_of(1));
  inbox.submit(channel_of(3));
  EXPECT_EQ(inbox.pending_samples(), 4);
  EXPECT_ERROR(ErrorCode::overloaded, "2 requests are already waiting", inbox.submit(channel_of(1)));
  Inbox::Mail mail;
  inbox.take(mail);
  EXPECT_EQ(mail.size(), 2u);
  EXPECT_EQ(inbox.pending_samples(), 0);
  EXPECT_ERROR(ErrorCode::overloaded, "already waiting", inbox.submit(channel_of(1)));  // taken, but still in line
  inbox.leave_line(1, 0);
  inbox.submit(channel_of(1));
  EXPECT_ERROR(ErrorCode::overloaded, "already waiting", inbox.submit(channel_of(1)));
}

TEST(Inbox, BoundsTheTokensOfItsPrompts) {
  const auto channel = [](int prompt) {
    Request request = request_of(1);
    request.prompt.assign(static_cast<std::size_t>(prompt), 1);
    return std::make_shared<RequestChannel>(std::move(request), 0);
  };
  Inbox inbox(100, 10);
  inbox.submit(channel(40));  // alone it may wait, whatever its length
  EXPECT_ERROR(ErrorCode::overloaded, "1 requests with 40 prompt tokens", inbox.submit(channel(1)));
  inbox.leave_line(1, 40);
  inbox.submit(channel(6));
  inbox.submit(channel(4));
  EXPECT_EQ(inbox.waiting_tokens(), 10);
  EXPECT_ERROR(ErrorCode::overloaded, "max_queued_tokens", inbox.submit(channel(1)));
}

TEST(Inbox, RefusesOnceClosed) {
  Inbox inbox(2);
  inbox.close();
  EXPECT_ERROR(ErrorCode::cancelled, "shutting down", inbox.submit(channel_of(1)));
  EXPECT_FALSE(inbox.wait(false));
  EXPECT_FALSE(inbox.wait(true));
}

TEST(Inbox, AnnouncesACancelOnce) {
  Inbox inbox(2);
  Inbox::Mail mail;
  inbox.announce_cancel();
  EXPECT_TRUE(inbox.wait(false));
  EXPECT_TRUE(inbox.take(mail));
  EXPECT_FALSE(inbox.take(mail));
}

}  // namespace
}  // namespace bittern::engine
