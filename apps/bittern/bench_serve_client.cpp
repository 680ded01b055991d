// Boost.Beast with C++20 coroutines. A request in closed loop reuses its worker's connection; with arrivals each has
// its own. Latency counts from before the connection is made.
#include "bench_serve_client.h"

#include <utility>  // before asio: Boost 1.74's awaitable.hpp needs it

#include <bittern/error.h>
#include <fmt/core.h>
#include <openssl/ssl.h>
#include <sys/resource.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <chrono>
#include <limits>
#include <memory>

#include "base/strings.h"
#include "bench_serve_sse.h"

namespace bittern::cli {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = net::ip::tcp;
using Clock = std::chrono::steady_clock;
using PlainStream = beast::tcp_stream;
using TlsStream = beast::ssl_stream<beast::tcp_stream>;

constexpr std::size_t kMaxErrorBody = 64 << 10;

struct Failure {
  std::string kind, message;
};

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// What all connections of a run share.
struct Run {
  explicit Run(const ClientOptions& options_) : options(options_), tls(net::ssl::context::tls_client) {
    if (!options.url.tls) return;
    if (options.ca_file.empty()) {
      tls.set_default_verify_paths();
    } else {
      boost::system::error_code ec;
      tls.load_verify_file(options.ca_file, ec);
      if (ec) throw Error(ErrorCode::not_found, "--ca-file: cannot read " + options.ca_file + ": " + ec.message());
    }
    tls.set_verify_mode(options.insecure ? net::ssl::verify_none : net::ssl::verify_peer);
  }
  double now() const { return std::chrono::duration<double>(Clock::now() - start).count(); }

  const ClientOptions& options;
  net::io_context io{1};
  net::ssl::context tls;
  tcp::resolver::results_type addresses;
  Clock::time_point start = Clock::now();
};

http::request<http::string_body> make_request(const ClientOptions& options, http::verb method,
                                              const std::string& path) {
  http::request<http::string_body> request{method, options.url.path + path, 11};
  request.set(http::field::host, options.url.host + ":" + options.url.port);
  request.set(http::field::user_agent, "bittern-bench");
  request.set(http::field::accept, "text/event-stream, application/json");
  if (!options.api_key.empty()) request.set(http::field::authorization, "Bearer " + options.api_key);
  return request;
}

std::string request_body(const ClientOptions& options, const PlannedRequest& planned) {
  OrderedJson body = {{"model", options.model}};
  if (options.chat) {
    body["messages"] = OrderedJson::array({{{"role", "user"}, {"content", planned.text}}});
  } else if (!planned.ids.empty()) {
    body["prompt"] = planned.ids;
  } else {
    body["prompt"] = planned.text;
  }
  body["max_tokens"] = planned.output_tokens;
  if (options.min_tokens) body["min_tokens"] = planned.output_tokens;
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  for (const auto& [name, value] : options.fields.items()) body[name] = value;
  return body.dump();
}

std::string error_message(const std::string& body) {
  const Json json = Json::parse(body, nullptr, false);
  const Json* error = json.is_object() && json.contains("error") ? &json["error"] : &json;
  if (error->is_object() && error->contains("message") && (*error)["message"].is_string()) return (*error)["message"];
  return utf8_sanitize(body.substr(0, 200));
}

// Deadlines belong to the socket below a TLS stream.
PlainStream& lowest(PlainStream& stream) { return stream; }
PlainStream& lowest(TlsStream& stream) { return stream.next_layer(); }

template <class Stream>
class Link {
 public:
  explicit Link(Run& run) : run_(run) {}

  /// Sends one request; a connection that the server closed meanwhile is made anew.
  net::awaitable<void> send(const http::request<http::string_body>& request) {
    const bool reused = stream_ != nullptr;
    if (!reused) co_await connect();
    boost::system::error_code ec;
    co_await write(request, ec);
    if (!ec) co_await read_header(ec);
    if (ec && reused && !parser_->got_some()) {
      co_await connect();
      ec = {};
      co_await write(request, ec);
      if (!ec) co_await read_header(ec);
    }
    if (ec) throw Failure{ec == beast::error::timeout ? "timeout" : "no reply", ec.message()};
  }

  unsigned status() { return parser_->get().result_int(); }

  /// Some more of the body; empty at its end.
  net::awaitable<std::string_view> read() {
    while (!parser_->is_done()) {
      parser_->get().body().data = chunk_;
      parser_->get().body().size = sizeof(chunk_);
      parser_->get().body().more = true;
      boost::system::error_code ec;
      lowest(*stream_).expires_after(limit());
      co_await http::async_read_some(*stream_, buffer_, *parser_, net::redirect_error(net::use_awaitable, ec));
      if (ec == http::error::need_buffer) ec = {};
      if (ec) throw Failure{ec == beast::error::timeout ? "timeout" : "cut off", ec.message()};
      const std::size_t got = sizeof(chunk_) - parser_->get().body().size;
      if (got > 0) co_return std::string_view(chunk_, got);
    }
    co_return std::string_view();
  }

  net::awaitable<std::string> read_all() {
    std::string body;
    for (;;) {
      const std::string_view part = co_await read();
      if (part.empty() || body.size() > kMaxErrorBody) co_return body;
      body += part;
    }
  }

  /// After a reply: keeps the connection if the server does.
  void finish() {
    if (!parser_->is_done() || !parser_->get().keep_alive()) close();
  }
  void close() {
    if (stream_ == nullptr) return;
    boost::system::error_code ignored;
    lowest(*stream_).socket().close(ignored);
    stream_.reset();
  }

 private:
  // The header is "some" as soon as a byte of it came: a retry would then send the request twice.
  struct Parser : http::response_parser<http::buffer_body> {
    using http::response_parser<http::buffer_body>::response_parser;
    bool got_some() const { return this->is_header_done(); }
  };

  std::chrono::milliseconds limit() const {
    return std::chrono::milliseconds(static_cast<long>(run_.options.timeout * 1e3));
  }

  net::awaitable<void> connect() {
    buffer_.clear();
    boost::system::error_code ec;
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      stream_ = std::make_unique<Stream>(run_.io, run_.tls);
      SSL_set_tlsext_host_name(stream_->native_handle(), run_.options.url.host.c_str());
      stream_->set_verify_callback(net::ssl::host_name_verification(run_.options.url.host));
    } else {
      stream_ = std::make_unique<Stream>(run_.io);
    }
    lowest(*stream_).expires_after(limit());
    co_await lowest(*stream_).async_connect(run_.addresses, net::redirect_error(net::use_awaitable, ec));
    if (!ec) lowest(*stream_).socket().set_option(tcp::no_delay(true), ec);
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      if (!ec) {
        co_await stream_->async_handshake(net::ssl::stream_base::client, net::redirect_error(net::use_awaitable, ec));
      }
    }
    if (ec) {
      stream_.reset();
      throw Failure{"connect", ec.message()};
    }
  }

  net::awaitable<void> write(const http::request<http::string_body>& request, boost::system::error_code& ec) {
    parser_.emplace();
    parser_->body_limit(std::numeric_limits<std::uint64_t>::max());  // boost::none refuses all in 1.74
    lowest(*stream_).expires_after(limit());
    co_await http::async_write(*stream_, request, net::redirect_error(net::use_awaitable, ec));
  }

  net::awaitable<void> read_header(boost::system::error_code& ec) {
    lowest(*stream_).expires_after(limit());
    co_await http::async_read_header(*stream_, buffer_, *parser_, net::redirect_error(net::use_awaitable, ec));
  }

  Run& run_;
  std::unique_ptr<Stream> stream_;
  beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  char chunk_[16 << 10];
};

class Load {
 public:
  Load(Run& run, LoadPlan& plan, const std::function<bool()>& stop, const std::function<void()>& done)
      : run_(run), plan_(plan), stop_(stop), done_(done), stop_timer_(run.io) {}

  LoadResult go() {
    const double cpu = cpu_seconds();
    run_.start = Clock::now();
    if (run_.options.concurrency == 0) {
      spawn([this] { return dispatch(); });
    } else {
      for (int i = 0; i < run_.options.concurrency; ++i) spawn([this] { return work(); });
    }
    watch_stop();
    run_.io.run();
    if (error_) std::rethrow_exception(error_);
    for (const RequestRecord& record : result_.records) result_.seconds = std::max(result_.seconds, record.end);
    const double wall = run_.now();
    result_.client_cpu = wall > 0 ? (cpu_seconds() - cpu) / wall : 0;
    return std::move(result_);
  }

 private:
  template <class Function>
  void spawn(Function function) {
    ++running_;
    net::co_spawn(run_.io, std::move(function), [this](std::exception_ptr error) {
      if (error && !error_) error_ = error;
      if (--running_ == 0) stop_timer_.cancel();
      if (error_) run_.io.stop();
    });
  }

  void watch_stop() {
    stop_timer_.expires_after(std::chrono::milliseconds(50));
    stop_timer_.async_wait([this](boost::system::error_code ec) {
      if (ec || running_ == 0) return;
      stop_() ? run_.io.stop() : watch_stop();
    });
  }

  std::optional<PlannedRequest> take() {
    const ClientOptions& options = run_.options;
    if (options.requests > 0 && started_ >= options.requests) return std::nullopt;
    if (options.duration > 0 && run_.now() >= options.duration) return std::nullopt;
    ++started_;
    return plan_.next();
  }

  net::awaitable<void> work() {
    if (run_.options.url.tls) {
      Link<TlsStream> link(run_);
      co_await work_on(link);
    } else {
      Link<PlainStream> link(run_);
      co_await work_on(link);
    }
  }

  template <class LinkType>
  net::awaitable<void> work_on(LinkType& link) {
    for (;;) {
      std::optional<PlannedRequest> planned = take();
      if (!planned) co_return;
      co_await exchange(link, *planned);
    }
  }

  net::awaitable<void> dispatch() {
    net::steady_timer timer(run_.io);
    for (;;) {
      std::optional<PlannedRequest> planned = take();
      if (!planned) co_return;
      const double limit = run_.options.duration;
      if (limit > 0 && planned->at >= limit) co_return;
      timer.expires_at(run_.start +
                       std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(planned->at)));
      co_await timer.async_wait(net::use_awaitable);
      auto request = std::make_shared<PlannedRequest>(std::move(*planned));
      spawn([this, request] { return single(request); });
    }
  }

  net::awaitable<void> single(std::shared_ptr<PlannedRequest> planned) {
    if (run_.options.url.tls) {
      Link<TlsStream> link(run_);
      co_await exchange(link, *planned);
    } else {
      Link<PlainStream> link(run_);
      co_await exchange(link, *planned);
    }
  }

  template <class LinkType>
  net::awaitable<void> exchange(LinkType& link, const PlannedRequest& planned) {
    RequestRecord record;
    record.prompt_tokens = planned.prompt_tokens;
    http::request<http::string_body> request =
        make_request(run_.options, http::verb::post, run_.options.chat ? "/v1/chat/completions" : "/v1/completions");
    request.set(http::field::content_type, "application/json");
    request.body() = request_body(run_.options, planned);
    request.prepare_payload();
    record.start = run_.now();
    try {
      co_await link.send(request);
      co_await receive(link, planned, record);
    } catch (const Failure& failure) {
      record.error = failure.kind;
      record.message = failure.message;
    }
    record.end = run_.now();
    record.error.empty() && !record.cancelled ? link.finish() : link.close();
    if (!record.counted) record.output_tokens = static_cast<int>(record.tokens.size());
    result_.records.push_back(std::move(record));
    done_();
  }

  template <class LinkType>
  net::awaitable<void> receive(LinkType& link, const PlannedRequest& planned, RequestRecord& record) {
    if (link.status() != 200) {
      const std::string body = co_await link.read_all();
      throw Failure{fmt::format("http {}", link.status()), error_message(body)};
    }
    EventReader events;
    bool done = false;
    for (;;) {
      const std::string_view part = co_await link.read();
      if (part.empty()) break;
      events.feed(part);
      while (std::optional<std::string> data = events.next()) {
        if (*data == "[DONE]") {
          done = true;
        } else {
          note(parse_stream_event(*data), record);
        }
      }
      if (planned.cancel_at && record.tokens.size() >= static_cast<std::size_t>(*planned.cancel_at) && !done) {
        record.cancelled = true;
        co_return;
      }
    }
    if (!done) throw Failure{"cut off", "the stream ended without data: [DONE]"};
    if (record.tokens.empty()) throw Failure{"empty", "a reply without any text"};
  }

  void note(const StreamEvent& event, RequestRecord& record) {
    if (!event.error.empty()) throw Failure{event.malformed ? "malformed" : "in stream", event.error};
    if (event.has_token) record.tokens.push_back(run_.now());
    if (!event.has_usage) return;
    record.counted = true;
    record.prompt_tokens = event.prompt_tokens;
    record.cached_tokens = event.cached_tokens;
    record.output_tokens = event.output_tokens;
  }

  Run& run_;
  LoadPlan& plan_;
  const std::function<bool()>& stop_;
  const std::function<void()>& done_;
  net::steady_timer stop_timer_;
  std::size_t started_ = 0;
  int running_ = 0;
  std::exception_ptr error_;
  LoadResult result_;
};

void resolve(Run& run) {
  const ServerUrl& url = run.options.url;
  boost::system::error_code ec;
  run.addresses = tcp::resolver(run.io).resolve(url.host, url.port, ec);
  if (ec) throw Error(ErrorCode::io, fmt::format("--url: cannot resolve {}: {}", url.host, ec.message()));
}

template <class Stream>
net::awaitable<std::string> get(Run& run, const std::string& path) {
  Link<Stream> link(run);
  const http::request<http::string_body> request = make_request(run.options, http::verb::get, path);
  co_await link.send(request);
  std::string body = co_await link.read_all();
  if (link.status() != 200) throw Failure{fmt::format("http {}", link.status()), error_message(body)};
  co_return body;
}

}  // namespace

ServerUrl parse_url(const std::string& text) {
  const auto refuse = [&] {
    throw Error(ErrorCode::invalid_argument, fmt::format("--url: '{}' is not a URL", text),
                "give one as http://127.0.0.1:8000");
  };
  ServerUrl url;
  std::string rest = text;
  if (rest.starts_with("https://")) url.tls = true;
  if (!url.tls && !rest.starts_with("http://")) refuse();
  rest.erase(0, url.tls ? 8 : 7);
  const std::size_t slash = rest.find('/');
  if (slash != std::string::npos) url.path = rest.substr(slash);
  while (url.path.ends_with('/')) url.path.pop_back();
  if (url.path.ends_with("/v1")) url.path.resize(url.path.size() - 3);  // as OpenAI's clients are given it
  std::string place = rest.substr(0, slash);
  const std::size_t colon = place.rfind(':');
  const bool has_port = colon != std::string::npos && place.find(']', colon) == std::string::npos;
  url.port = has_port ? place.substr(colon + 1) : url.tls ? "443" : "80";
  url.host = has_port ? place.substr(0, colon) : place;
  if (url.host.starts_with('[') && url.host.ends_with(']')) url.host = url.host.substr(1, url.host.size() - 2);
  if (url.host.empty() || url.port.empty() || url.port.find_first_not_of("0123456789") != std::string::npos) refuse();
  return url;
}

LoadResult run_load(const ClientOptions& options, LoadPlan& plan, const std::function<bool()>& stop,
                    const std::function<void()>& done) {
  Run run(options);
  resolve(run);
  return Load(run, plan, stop, done).go();
}

std::string first_model(const ClientOptions& options) {
  Run run(options);
  resolve(run);
  std::string body;
  std::exception_ptr error;
  const auto ask = [&]() -> net::awaitable<void> {
    if (options.url.tls) {
      body = co_await get<TlsStream>(run, "/v1/models");
    } else {
      body = co_await get<PlainStream>(run, "/v1/models");
    }
  };
  net::co_spawn(run.io, ask, [&](std::exception_ptr thrown) { error = thrown; });
  run.io.run();
  const std::string where = fmt::format("{}:{}", options.url.host, options.url.port);
  try {
    if (error) std::rethrow_exception(error);
  } catch (const Failure& failure) {
    throw Error(ErrorCode::io, fmt::format("GET /v1/models at {}: {}: {}", where, failure.kind, failure.message),
                "give the model's name with --model if the server has no such route");
  }
  const Json json = parse_json(body, "the reply to GET /v1/models");
  if (!json.is_object() || !json.contains("data") || !json["data"].is_array() || json["data"].empty()) {
    throw Error(ErrorCode::not_found, where + " lists no model", "give its name with --model");
  }
  return require<std::string>(json["data"][0], "id", "the first model");
}

}  // namespace bittern::cli
