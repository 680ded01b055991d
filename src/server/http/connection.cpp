// The coroutine of a connection, once for plain sockets and once for TLS. All members belong to one I/O thread.
// GCC 12 destroys temporaries twice that live across a co_await inside a conditional expression: none are written here.
#include "server/http/connection.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <fmt/format.h>

#include "base/log.h"
#include "server/http/error_reply.h"
#include "server/http/refusal.h"
#include "server/http/request_head.h"
#include "server/http/response_head.h"

namespace bittern::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
template <class T = void>
using Task = asio::awaitable<T>;
using Parser = http::request_parser<http::string_body>;
using TlsStream = asio::ssl::stream<asio::ip::tcp::socket>;

constexpr std::size_t kReadAhead = 64 << 10;  // of a client that sends on while it waits for a reply
constexpr std::size_t kWritePiece = 256 << 10;
constexpr milliseconds kLinger{2000};  // for a client to read a refusal before the connection is cut

auto into(error_code& ec) { return asio::redirect_error(asio::use_awaitable, ec); }

Task<HttpReply> answer_on_worker(const Route* route, const HttpRequest* request) {
  try {
    co_return route->handler(*request);
  } catch (const std::exception& error) {
    co_return error_reply(route->errors, error, request->id);
  }
}

template <class Stream>
class StreamConnection final : public Connection, public std::enable_shared_from_this<StreamConnection<Stream>> {
 public:
  template <class... Args>
  StreamConnection(HttpShared& shared, ConnectionSet& set, Args&&... args)
      : shared_(shared),
        set_(set),
        stream_(std::forward<Args>(args)...),
        limit_(stream_.get_executor()),
        bell_timer_(stream_.get_executor()) {
    bell_->ring = [this] { ring(); };
    error_code ec;
    const auto peer = socket().remote_endpoint(ec);
    if (!ec) client_ = peer.address().to_string();
    set_.all.insert(this);
    ++shared_.connections;
  }

  ~StreamConnection() override {
    bell_->ring = nullptr;
    set_.all.erase(this);
    --shared_.connections;
  }

  void start() {
    asio::co_spawn(
        stream_.get_executor(), [self = this->shared_from_this()] { return self->run(); }, asio::detached);
  }

  void drain() override {
    if (reading_ != nullptr && !reading_->got_some() && buffer_.size() == 0) abort();
  }
  void abort() override {
    aborted_ = true;
    error_code ec;
    socket().close(ec);
    ring();
  }

 private:
  asio::ip::tcp::socket& socket() {
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      return stream_.next_layer();
    } else {
      return stream_;
    }
  }

  Task<> run() {
    const auto self = this->shared_from_this();
    try {
      if (co_await handshake()) {
        while (co_await exchange()) {
        }
      }
      co_await close();
    } catch (const std::exception& error) {
      log_error("connection of {}: {}", client_, error.what());
      abort();  // else its watch would hold the connection
    }
    disarm();
  }

  Task<bool> handshake() {
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      error_code ec;
      arm(shared_.options.header_timeout);
      co_await stream_.async_handshake(asio::ssl::stream_base::server, into(ec));
      disarm();
      co_return !ec;
    }
    co_return true;
  }

  // --- one request and its reply; false: the connection ends ---

  Task<bool> exchange() {
    Parser parser;
    parser.header_limit(static_cast<std::uint32_t>(shared_.options.max_header_bytes));
    parser.body_limit(shared_.options.max_body_bytes);
    record_ = {};
    record_.client = client_;
    keep_alive_ = false;
    const error_code ec = co_await read_header(parser);
    if (ec) {
      co_await refuse_broken(parser, ec);
      co_return false;
    }
    begin_ = Clock::now();
    keep_alive_ = parser.get().keep_alive();
    version_ = parser.get().version();
    request_ = {};
    HttpReply reply;
    std::optional<HttpReply> refusal = read_head(parser.get().base(), request_);
    if (refusal) {
      reply = std::move(*refusal);
      keep_alive_ = false;
    } else {
      reply = co_await answer(parser);
    }
    if (aborted_) co_return false;
    const bool complete = co_await write_reply(std::move(reply));
    report(complete);
    if (!complete) co_return false;
    co_return keep_alive_;
  }

  Task<error_code> read_header(Parser& parser) {
    error_code ec;
    if (buffer_.size() == 0 && shared_.draining) co_return asio::error::operation_aborted;
    reading_ = &parser;
    arm(shared_.options.header_timeout);
    co_await http::async_read_header(stream_, buffer_, parser, into(ec));
    disarm();
    reading_ = nullptr;
    if (timed_out_) ec = asio::error::timed_out;
    co_return ec;
  }

  /// A request that could not be read: what HTTP has a status for is told, the rest closes in silence.
  Task<> refuse_broken(Parser& parser, error_code ec) {
    const bool began = buffer_.size() > 0 || parser.got_some();
    HttpReply reply;
    if (ec == http::error::header_limit) {
      reply = error_reply(ErrorShape::openai, 431,
                          fmt::format("the header is longer than {} bytes", shared_.options.max_header_bytes));
    } else if (ec == http::error::body_limit) {
      reply = too_large(shared_.options, {});
    } else if (ec == asio::error::timed_out && began) {
      reply = error_reply(ErrorShape::openai, 408, "the header did not arrive in time");
    } else if (ec.category() == make_error_code(http::error::bad_method).category() &&
               ec != http::error::end_of_stream && ec != http::error::partial_message) {
      reply = error_reply(ErrorShape::openai, 400, fmt::format("this is not an HTTP request: {}", ec.message()));
    } else {
      co_return;
    }
    begin_ = Clock::now();
    request_ = {};
    request_.id = make_request_id();
    const bool written = co_await write_whole(reply);
    record_.status = reply.status;
    report(written);
  }

  /// The reply to a request whose header has come: a refusal, or what the route's handler says to the whole of it.
  Task<HttpReply> answer(Parser& parser) {
    const RouteMatch match = shared_.router.match(request_.method, request_.path);
    record_.route = match.route ? match.route->path : std::string();
    errors_ = match.route ? match.route->errors : ErrorShape::openai;
    std::optional<HttpReply> refusal = refuse(shared_, request_, match);
    if (refusal) {
      keep_alive_ = keep_alive_ && parser.is_done();
      co_return std::move(*refusal);
    }
    refusal = co_await read_body(parser);
    if (refusal) {
      keep_alive_ = false;
      co_return std::move(*refusal);
    }
    request_.body = std::move(parser.get().body());
    record_.bytes_in = request_.body.size();
    co_return co_await asio::co_spawn(shared_.workers.get_executor(), answer_on_worker(match.route, &request_),
                                      asio::use_awaitable);
  }

  Task<std::optional<HttpReply>> read_body(Parser& parser) {
    error_code ec;
    arm(shared_.options.body_timeout);
    if (request_.header("expect") == "100-continue" && !parser.is_done()) {
      static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      co_await asio::async_write(stream_, asio::buffer(kContinue), into(ec));
    }
    if (!ec) co_await http::async_read(stream_, buffer_, parser, into(ec));
    disarm();
    if (timed_out_) co_return error_reply(ErrorShape::openai, 408, "the body did not arrive in time");
    if (ec == http::error::body_limit) co_return too_large(shared_.options, request_.id);
    if (ec) co_return error_reply(ErrorShape::openai, 400, fmt::format("the body is broken: {}", ec.message()));
    co_return std::nullopt;
  }

  // --- replies ---

  /// True once all of it was written.
  Task<bool> write_reply(HttpReply reply) {
    const bool waits = reply.later || reply.source;
    if (waits) start_watch();
    if (reply.later) {
      const bool ready = co_await await_later(reply);
      if (!ready) {
        co_await stop_watch();
        co_return false;
      }
    }
    record_.status = reply.status;
    bool written = false;
    if (reply.source) {
      written = co_await write_stream(reply);
    } else {
      written = co_await write_whole(reply);
    }
    if (waits) co_await stop_watch();
    co_return written;
  }

  /// Puts the reply that was to come in the place of `reply`; false when the client is gone.
  Task<bool> await_later(HttpReply& reply) {
    const std::unique_ptr<LaterReply> later = std::move(reply.later);
    later->start(set_.hub->wake_for(bell_));
    while (!gone()) {
      if (auto ready = poll_later(*later)) {
        reply = std::move(*ready);
        co_return true;
      }
      co_await wait_for_wake(milliseconds(60'000));
    }
    co_return false;
  }

  /// What the handler of a reply that comes later throws is an error reply, as of one that comes at once.
  std::optional<HttpReply> poll_later(LaterReply& later) const {
    try {
      return later.poll();
    } catch (const std::exception& error) {
      return error_reply(errors_, error, request_.id);
    }
  }

  Task<bool> write_whole(const HttpReply& reply) {
    std::string bytes = head_of(reply, ReplyLength::known);
    if (request_.method != "HEAD") bytes += reply.body;
    record_.bytes_out = reply.body.size();
    co_return co_await write(bytes);
  }

  Task<bool> write_stream(HttpReply& reply) {
    const bool chunked = version_ >= 11;
    if (!chunked) keep_alive_ = false;
    std::string bytes = head_of(reply, chunked ? ReplyLength::chunked : ReplyLength::until_close);
    if (request_.method == "HEAD") co_return co_await write(bytes);
    const std::unique_ptr<BodySource> source = std::move(reply.source);
    source->start(set_.hub->wake_for(bell_));
    if (!co_await write(bytes)) co_return false;
    bool done = false;
    while (!done) {
      std::string part;
      done = poll_source(*source, part);
      if (gone()) co_return false;
      if (part.empty() && !done) {
        const bool woken = co_await wait_for_wake(shared_.options.ping_interval);
        if (woken) continue;
        part = source->ping();
      }
      if (part.empty() && !done) continue;
      record_.bytes_out += part.size();
      if (chunked) part = as_chunk(part, done);
      if (!co_await write(part)) co_return false;
    }
    co_return true;
  }

  /// A stream that breaks must not look as if it had ended: the connection is cut.
  bool poll_source(BodySource& source, std::string& part) {
    try {
      return source.poll(part);
    } catch (const std::exception& error) {
      log_error("request {}: its stream broke: {}", request_.id, error.what());
      abort();
      return false;
    }
  }

  std::string head_of(const HttpReply& reply, ReplyLength length) const {
    HttpHeaders more = shared_.gate.cors_headers(request_);
    more.emplace_back("x-request-id", request_.id);
    return response_head(reply, length, version_, keep_alive_ && !shared_.draining, more);
  }

  /// The time limit is that of a piece, so that a slow client who reads all the time gets a long reply.
  Task<bool> write(const std::string& bytes) {
    error_code ec;
    for (std::size_t at = 0; at < bytes.size() && !ec; at += kWritePiece) {
      arm(shared_.options.write_timeout);
      co_await asio::async_write(stream_, asio::buffer(bytes.data() + at, std::min(kWritePiece, bytes.size() - at)),
                                 into(ec));
      disarm();
    }
    co_return !ec;
  }

  void report(bool complete) {
    record_.complete = complete;
    record_.id = request_.id;
    record_.method = request_.method;
    record_.path = request_.path;
    record_.traceparent = request_.header("traceparent");
    record_.seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    if (shared_.observer.exchange) shared_.observer.exchange(record_);
    if (shared_.draining) keep_alive_ = false;
  }

  // --- the client's leaving, seen while a reply is on its way: it reads ahead, and comes upon the end ---

  bool gone() const { return gone_ || aborted_; }

  void start_watch() {
    gone_ = false;
    watching_ = true;
    asio::co_spawn(
        stream_.get_executor(), [self = this->shared_from_this()] { return self->watch(); }, asio::detached);
  }

  Task<> watch() {
    error_code ec;
    while (!ec && !stop_watching_ && buffer_.size() < kReadAhead) {
      const std::size_t bytes = co_await stream_.async_read_some(buffer_.prepare(4096), into(ec));
      buffer_.commit(bytes);
    }
    if (ec && !stop_watching_) gone_ = true;
    watching_ = false;
    ring();
  }

  Task<> stop_watch() {
    stop_watching_ = true;
    while (watching_) {
      error_code ec;
      socket().cancel(ec);
      co_await wait_for_wake(milliseconds(50));
    }
    stop_watching_ = false;
  }

  // --- waiting ---

  void ring() {
    rung_ = true;
    bell_timer_.cancel();
  }

  /// True when somebody rang before `limit` had passed.
  Task<bool> wait_for_wake(milliseconds limit) {
    if (!rung_) {
      error_code ec;
      bell_timer_.expires_after(limit);
      co_await bell_timer_.async_wait(into(ec));
    }
    co_return std::exchange(rung_, false);
  }

  /// Ends whatever the socket is doing in `limit`, and goes on ending it until disarm(): an operation made of several
  /// may be between two of them when its time is up.
  void arm(milliseconds limit) {
    timed_out_ = false;
    armed_ = true;
    wait_limit(limit);
  }
  void wait_limit(milliseconds limit) {
    limit_.expires_after(limit);
    limit_.async_wait([self = this->shared_from_this(), this](error_code ec) {
      const bool armed_anew = limit_.expiry() > Clock::now();  // since this handler was queued
      if (ec || !armed_ || armed_anew) return;
      timed_out_ = true;
      socket().cancel(ec);
      wait_limit(milliseconds(100));
    });
  }
  void disarm() {
    armed_ = false;
    limit_.cancel();
  }

  /// Lets the client read what was written: closing with unread bytes would make its system throw that away.
  Task<> close() {
    error_code ec;
    if (!socket().is_open()) co_return;
    arm(kLinger);
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      co_await stream_.async_shutdown(into(ec));
    } else {
      socket().shutdown(asio::ip::tcp::socket::shutdown_send, ec);
      char waste[16384];
      while (!ec && !timed_out_) co_await socket().async_read_some(asio::buffer(waste), into(ec));
    }
    disarm();
    socket().close(ec);
  }

  HttpShared& shared_;
  ConnectionSet& set_;
  Stream stream_;
  beast::flat_buffer buffer_;  // what was read beyond the request before
  std::string client_;

  HttpRequest request_;
  ExchangeRecord record_;
  ErrorShape errors_ = ErrorShape::openai;  // of the route
  Clock::time_point begin_;
  unsigned version_ = 11;
  bool keep_alive_ = false;
  const Parser* reading_ = nullptr;  // of the header that is awaited

  std::shared_ptr<WakeHub::Bell> bell_ = std::make_shared<WakeHub::Bell>();
  asio::steady_timer limit_, bell_timer_;
  bool armed_ = false, timed_out_ = false, rung_ = false, aborted_ = false;
  bool watching_ = false, stop_watching_ = false, gone_ = false;
};

template <class Stream, class... Args>
void spawn(HttpShared& shared, ConnectionSet& set, Args&&... args) {
  std::make_shared<StreamConnection<Stream>>(shared, set, std::forward<Args>(args)...)->start();
}

}  // namespace

void start_connection(asio::ip::tcp::socket socket, std::shared_ptr<asio::ssl::context> tls, HttpShared& shared,
                      ConnectionSet& set) {
  error_code ec;
  socket.set_option(asio::ip::tcp::no_delay(true), ec);
  if (tls) {
    spawn<TlsStream>(shared, set, std::move(socket), *tls);
  } else {
    spawn<asio::ip::tcp::socket>(shared, set, std::move(socket));
  }
}

}  // namespace bittern::server
