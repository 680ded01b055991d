// Damaged requests against the HTTP server over real sockets. Whatever arrives, the reply is HTTP with a status that
// blames the client (or the request was fine), nothing is left behind, and the next client is served.
#include <gtest/gtest.h>

#include <set>

#include "fuzz/attempt.h"
#include "fuzz/mutate.h"
#include "server/generation/fields.h"
#include "support/http_loopback.h"

namespace bittern::fuzz {
namespace {

using testing::Client;
using testing::eventually;
using testing::LoopbackServer;

const std::vector<std::string> kRequests = {
    "GET /ok HTTP/1.1\r\nhost: a\r\n\r\n",
    "HEAD /ok?a=b&c=%41 HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n",
    "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello",
    "POST /json HTTP/1.1\r\nhost: a\r\nauthorization: Bearer key\r\ncontent-length: 13\r\n\r\n{\"a\":[1,2,3]}",
    "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nyou\r\n0\r\nt: "
    "1\r\n\r\n",
    "POST /echo HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n{}",
    "OPTIONS * HTTP/1.1\r\nhost: a\r\norigin: http://b\r\naccess-control-request-headers: c\r\n\r\n",
    "GET http://a/stream HTTP/1.1\r\nhost: a\r\nx-request-id: 1\r\n\r\nGET /later HTTP/1.1\r\n\r\n",
};

/// Statuses that blame the client, or nobody.
bool is_the_clients(int status) { return status >= 100 && status < 500 && status != 499; }

/// Every status line in what the server said; our bodies hold none.
std::vector<int> statuses(const std::string& reply) {
  std::vector<int> found;
  for (std::size_t at = reply.find("HTTP/1.1 "); at != std::string::npos; at = reply.find("HTTP/1.1 ", at + 9)) {
    found.push_back(std::atoi(reply.c_str() + at + 9));
  }
  return found;
}

TEST(HttpFuzz, DamagedRequestsAreRefusedAndTheServerGoesOn) {
  server::ServeOptions options;
  options.header_timeout = options.body_timeout = std::chrono::milliseconds(200);
  options.max_body_bytes = 4096;
  options.max_header_bytes = 4096;
  LoopbackServer server(options);
  Mutator mutator(1);
  std::set<int> seen;
  for (int i = 0; i < 4000; ++i) {
    const std::string request = mutator.mutate(kRequests[mutator.below(kRequests.size())]);
    const std::string reply = Client(server.port()).send(request).end().read_all();
    ASSERT_TRUE(reply.empty() || reply.starts_with("HTTP/1.1 ")) << request << "\n" << reply;
    for (const int status : statuses(reply)) {
      ASSERT_TRUE(is_the_clients(status)) << request << "\n" << reply;
      seen.insert(status);
    }
  }
  // A test that never gets past the parser, or never fails in it, tests nothing.
  for (const int status : {200, 400, 404}) EXPECT_TRUE(seen.count(status)) << status;
  EXPECT_TRUE(eventually([&] { return server.alive() == 0 && server.http().connections() == 0; }));
  EXPECT_TRUE(Client(server.port()).get("/ok", "connection: close\r\n").read_all().ends_with("\r\n\r\nok"));
}

TEST(HttpFuzz, RandomBytesAreNoRequests) {
  LoopbackServer server;
  Mutator random(2);
  for (int i = 0; i < 500; ++i) {
    std::string bytes(1 + random.below(300), '\0');
    for (char& c : bytes) c = static_cast<char>(random.below(256));
    const std::string reply = Client(server.port()).send(bytes).end().read_all();
    ASSERT_TRUE(reply.empty() || statuses(reply) == std::vector<int>{400}) << bytes << "\n" << reply;
  }
  EXPECT_TRUE(eventually([&] { return server.http().connections() == 0; }));
}

TEST(HttpFuzz, DamagedJsonBodiesBlameTheBody) {
  const std::string valid =
      R"({"model":"mini","messages":[{"role":"user","content":"h\u00e9 \ud83d\ude00"}],"temperature":0.5,"stop":["a"],)"
      R"("logit_bias":{"12":-1},"stream":true,"tools":[{"type":"function","function":{"name":"f"}}],"seed":-1e3})";
  Mutator mutator(3);
  Tally tally;
  for (int i = 0; i < 20'000; ++i) {
    const std::string body = mutator.mutate(valid);
    attempt(tally, body, [&] { server::parse_body(body).dump(); });
  }
  EXPECT_GT(tally.accepted, 100);
  EXPECT_GT(tally.refused, 1000);
}

}  // namespace
}  // namespace bittern::fuzz
