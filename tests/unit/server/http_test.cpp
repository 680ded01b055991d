// Parts of the HTTP server that need no socket: routing, keys and origins, heads of replies, error bodies, wakes.
#include <utility>

#include "server/http/error_reply.h"
#include "server/http/gate.h"
#include "server/http/response_head.h"
#include "server/http/router.h"
#include "server/http/wake_hub.h"

#include <gtest/gtest.h>
#include <boost/asio/io_context.hpp>

#include <thread>

#include "server/access_log.h"
#include "server/api_error.h"

namespace bittern::server {
namespace {

Route route(const char* method, const char* path) {
  return {method, path, [](const HttpRequest&) { return HttpReply(); }};
}

TEST(Router, MatchesPartsAndRests) {
  EXPECT_TRUE(path_matches("/v1/models", "/v1/models"));
  EXPECT_FALSE(path_matches("/v1/models", "/v1/models/"));
  EXPECT_FALSE(path_matches("/v1/models", "/v1"));
  EXPECT_TRUE(path_matches("/v1/models/{name}", "/v1/models/org/model"));
  EXPECT_FALSE(path_matches("/v1/models/{name}", "/v1/models/"));
  EXPECT_TRUE(path_matches("/a/{x}/b", "/a/1/b"));
  EXPECT_FALSE(path_matches("/a/{x}/b", "/a/1/2/b"));
  EXPECT_FALSE(path_matches("/a/{x}/b", "/a//b"));
}

TEST(Router, FindsMethodsAndNearPaths) {
  const Router router({route("GET", "/health"), route("POST", "/v1/completions")});
  EXPECT_EQ(router.match("HEAD", "/health").route->path, "/health");
  const RouteMatch wrong = router.match("GET", "/v1/completions");
  EXPECT_EQ(wrong.route, nullptr);
  EXPECT_EQ(wrong.allowed, std::vector<std::string>{"POST"});
  EXPECT_EQ(router.nearest("/v1/completion"), "/v1/completions");
  EXPECT_EQ(router.nearest("/entirely/different"), "");
}

TEST(Router, DecodesEscapesAndRefusesBrokenOnes) {
  std::string path;
  EXPECT_TRUE(percent_decode("/a%20b%2Fc", path));
  EXPECT_EQ(path, "/a b/c");
  for (const char* broken : {"%", "%4", "%zz", "%00"}) EXPECT_FALSE(percent_decode(broken, path)) << broken;
}

TEST(Gate, ComparesKeysWhole) {
  EXPECT_TRUE(equal_in_constant_time("abc", "abc"));
  for (const char* other : {"", "ab", "abd", "abcabc"}) EXPECT_FALSE(equal_in_constant_time(other, "abc")) << other;
  EXPECT_FALSE(equal_in_constant_time("abc", ""));
}

HttpRequest with(HttpHeaders headers, std::string method = "GET") {
  HttpRequest request;
  request.method = std::move(method);
  request.headers = std::move(headers);
  return request;
}

TEST(Gate, ReadsKeysFromBothHeaders) {
  const Gate gate({"one", "two"}, {});
  EXPECT_TRUE(gate.has_key(with({{"authorization", "Bearer one"}})));
  EXPECT_TRUE(gate.has_key(with({{"authorization", "bearer two"}})));
  EXPECT_TRUE(gate.has_key(with({{"x-api-key", "two"}})));
  EXPECT_FALSE(gate.has_key(with({{"authorization", "Basic one"}})));
  EXPECT_FALSE(gate.has_key(with({{"authorization", "Bearer "}})));
  EXPECT_FALSE(gate.has_key(with({})));
  EXPECT_TRUE(Gate({}, {}).has_key(with({})));
}

TEST(Gate, AnswersOriginsItKnows) {
  const Gate gate({}, {"http://good"});
  EXPECT_FALSE(gate.preflight(with({{"origin", "http://evil"}}, "OPTIONS"), {"POST"}));
  const auto reply = gate.preflight(with({{"origin", "http://good"}}, "OPTIONS"), {"POST"});
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->status, 204);
  EXPECT_TRUE(gate.cors_headers(with({{"origin", "http://evil"}})).empty());
  EXPECT_EQ(gate.cors_headers(with({{"origin", "http://good"}}))[0].second, "http://good");
  EXPECT_FALSE(Gate({}, {"*"}).cors_headers(with({{"origin", "http://any"}})).empty());
}

TEST(Gate, KeepsForeignPagesOut) {
  const Gate gate({}, {"http://good"});
  const auto from = [](const char* origin) { return with({{"origin", origin}, {"host", "127.0.0.1:8000"}}, "POST"); };
  EXPECT_TRUE(gate.refuses_origin(from("http://evil")));
  EXPECT_TRUE(gate.refuses_origin(from("null")));
  EXPECT_TRUE(gate.refuses_origin(from("http://127.0.0.1:9000")));
  EXPECT_FALSE(gate.refuses_origin(from("http://127.0.0.1:8000")));
  EXPECT_FALSE(gate.refuses_origin(from("https://127.0.0.1:8000")));
  EXPECT_FALSE(gate.refuses_origin(from("http://good")));
  EXPECT_FALSE(gate.refuses_origin(with({{"host", "127.0.0.1:8000"}}, "POST")));
}

TEST(ResponseHead, SaysWhereTheBodyEnds) {
  HttpReply reply;
  reply.body = "12345";
  const std::string known = response_head(reply, ReplyLength::known, 11, true, {{"x-more", "1"}});
  EXPECT_NE(known.find("content-length: 5\r\n"), std::string::npos);
  EXPECT_NE(known.find("x-more: 1\r\n"), std::string::npos);
  EXPECT_EQ(known.find("connection:"), std::string::npos);
  EXPECT_NE(response_head(reply, ReplyLength::chunked, 11, false, {}).find("connection: close"), std::string::npos);
  EXPECT_NE(response_head(reply, ReplyLength::known, 10, true, {}).find("connection: keep-alive"), std::string::npos);
  reply.status = 204;
  EXPECT_EQ(response_head(reply, ReplyLength::known, 11, true, {}).find("content-length"), std::string::npos);
  EXPECT_EQ(as_chunk("abc", false), "3\r\nabc\r\n");
  EXPECT_EQ(as_chunk("", true), "0\r\n\r\n");
}

TEST(ErrorReply, SpeaksEachApisTongue) {
  const ApiError error(ErrorCode::invalid_argument, "top_p", "top_p is 2", "use 0 to 1", "out_of_range");
  const OrderedJson openai = error_body(ErrorShape::openai, error)["error"];
  EXPECT_EQ(openai["param"], "top_p");
  EXPECT_EQ(openai["code"], "out_of_range");
  EXPECT_EQ(openai["type"], "invalid_request_error");
  const OrderedJson anthropic = error_body(ErrorShape::anthropic, error, "req-1");
  EXPECT_EQ(anthropic["type"], "error");
  EXPECT_EQ(anthropic["error"]["type"], "invalid_request_error");
  EXPECT_EQ(anthropic["request_id"], "req-1");
}

TEST(ErrorReply, KeepsBugsToTheLog) {
  const HttpReply reply = error_reply(ErrorShape::openai, std::runtime_error("secret detail"));
  EXPECT_EQ(reply.status, 500);
  EXPECT_EQ(reply.body.find("secret"), std::string::npos);
  const HttpReply full = error_reply(ErrorShape::openai, Error(ErrorCode::overloaded, "full"));
  EXPECT_EQ(full.status, 429);
  EXPECT_EQ(full.headers.at(0).first, "retry-after");
}

TEST(WakeHub, RingsEachBellOnceHoweverOftenItIsWoken) {
  boost::asio::io_context context;
  const auto hub = std::make_shared<WakeHub>(context.get_executor());
  auto bell = std::make_shared<WakeHub::Bell>();
  int rung = 0;
  bell->ring = [&] { ++rung; };
  const Wake wake = hub->wake_for(bell);
  std::thread other([&] {
    for (int i = 0; i < 1000; ++i) wake();
  });
  other.join();
  context.run();
  EXPECT_EQ(rung, 1);
  wake();
  context.restart();
  context.run();
  EXPECT_EQ(rung, 2);
  bell.reset();
  wake();  // nobody is there any more
  context.restart();
  context.run();
  EXPECT_EQ(rung, 2);
}

TEST(AccessLog, LinesAreJsonWhateverThePathHolds) {
  ExchangeRecord record;
  record.path = "/\xff\"\n";
  record.status = 404;
  const std::string line = access_line(record, 1700000000123);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  const Json json = Json::parse(line);
  EXPECT_EQ(json["time"], "2023-11-14T22:13:20.123Z");
  EXPECT_EQ(json["status"], 404);
}

}  // namespace
}  // namespace bittern::server
