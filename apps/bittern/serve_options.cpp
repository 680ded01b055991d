// Keys come from a file or the environment alone: a command line is seen by everybody on the machine.
#include "serve_options.h"

#include <bittern/error.h>
#include <fmt/core.h>

#include <cstdlib>
#include <filesystem>
#include <set>

#include "base/strings.h"
#include "model_loader.h"

namespace bittern::cli {
namespace {

constexpr const char* kKeyVariable = "BITTERN_API_KEY";

std::chrono::milliseconds milliseconds_of(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

std::vector<std::string> read_keys(const std::string& file) {
  std::vector<std::string> keys;
  if (const char* value = std::getenv(kKeyVariable); value && *value) keys.emplace_back(value);
  if (file.empty()) return keys;
  const std::string text = read_text(file);
  const std::size_t before = keys.size();
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string line(trim(std::string_view(text).substr(at, end - at)));
    if (!line.empty() && !line.starts_with('#')) keys.push_back(line);
    at = end + 1;
  }
  if (keys.size() == before)
    throw Error(ErrorCode::invalid_argument, "--api-key-file " + file + " holds no key", "one key a line");
  return keys;
}

bool is_loopback(const std::string& host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

std::string name_of(const std::string& source) {
  if (source.empty()) return "mini";
  const bool is_file = std::filesystem::is_regular_file(source);
  std::filesystem::path path(source);
  if (!path.has_filename()) path = path.parent_path();
  return is_file ? path.stem().string() : path.filename().string();
}

void add_server_options(CLI::App& command, ServeArguments& a) {
  const char* group = "Server";
  add_option(command, "--host", a.serve.host, "address to listen on; 0.0.0.0 is every one of this machine")
      ->group(group);
  add_option(command, "--port", a.serve.port, "0: a free one, which is printed")->group(group);
  add_option(command, "--api-key-file", a.api_key_file,
             std::string("file of keys, one a line, that clients must send; also ") + kKeyVariable)
      ->check(CLI::ExistingFile)
      ->group(group);
  add_option(command, "--insecure", a.insecure, "let other machines call without a key")->group(group);
  add_option(command, "--tls-certificate", a.serve.tls_certificate, "PEM file of the certificate and its chain")
      ->group(group);
  add_option(command, "--tls-key", a.serve.tls_key, "PEM file of its private key")->group(group);
  add_option(command, "--cors-origin", a.serve.cors_origins,
             "origin whose pages may call from a browser, * for all; may be repeated")
      ->group(group);
  add_option(command, "--log-file", a.log_file, "a JSON line for every request; - is standard error, '' none")
      ->group(group);
  add_option(command, "--strict", a.serve.strict, "refuse requests with fields that are not known")->group(group);
  add_option(command, "--vllm-metrics", a.serve.vllm_metrics, "give every metric its vllm: name too")->group(group);
  add_option(command, "--no-web-page", a.no_web_page, "serve no page at /")->group(group);
  add_option(command, "--tool-parser", a.serve.tool_parser,
             "how tool calls are written by the models; auto: by the template")
      ->group(group);
  add_option(command, "--reasoning-parser", a.serve.reasoning_parser, "how reasoning is marked; auto: by the template")
      ->group(group);
}

void add_limit_options(CLI::App& command, ServeArguments& a) {
  const char* group = "Limits";
  const auto positive = CLI::Range(1, 1 << 20);
  add_option(command, "--max-body", a.max_body, "largest request")->group(group);
  add_option(command, "--max-header-bytes", a.serve.max_header_bytes, "largest request header")
      ->check(CLI::Range(1024, 1 << 20))
      ->group(group);
  add_option(command, "--max-connections", a.serve.max_connections, "connections open at once")
      ->check(positive)
      ->group(group);
  add_option(command, "--io-threads", a.serve.io_threads, "threads that hold connections")
      ->check(CLI::Range(1, 64))
      ->group(group);
  add_option(command, "--workers", a.serve.workers, "threads that read requests and tokenize")
      ->check(CLI::Range(1, 64))
      ->group(group);
  const auto limit = CLI::Range(0.05, 1e6);
  add_option(command, "--header-timeout", a.seconds.header,
             "seconds for a request's header, and of silence between requests")
      ->check(limit)
      ->group(group);
  add_option(command, "--body-timeout", a.seconds.body, "seconds for a request's body")->check(limit)->group(group);
  add_option(command, "--write-timeout", a.seconds.write, "seconds for a client to take what it is sent")
      ->check(limit)
      ->group(group);
  add_option(command, "--ping-interval", a.seconds.ping, "seconds of silence after which a stream sends a comment")
      ->check(limit)
      ->group(group);
  add_option(command, "--drain-timeout", a.seconds.drain, "seconds that running requests get after SIGTERM")
      ->check(CLI::Range(0.0, 1e6))
      ->group(group);
}

double seconds_of(std::chrono::milliseconds time) { return static_cast<double>(time.count()) / 1000; }

}  // namespace

ServeSeconds::ServeSeconds(const server::ServeOptions& o)
    : header(seconds_of(o.header_timeout)),
      body(seconds_of(o.body_timeout)),
      write(seconds_of(o.write_timeout)),
      ping(seconds_of(o.ping_interval)),
      drain(seconds_of(o.drain_timeout)) {}

void add_serve_options(CLI::App& command, ServeArguments& a) {
  command.add_option(
      "MODEL", a.models,
      "models to serve, each a MODEL as of the other verbs or NAME=MODEL; without one, the embedded model");
  add_option(command, "--served-model-name", a.served_name, "name of the first model in requests; else its folder's");
  add_option(command, "--models-memory", a.models_memory,
             "memory that all loaded models may take, such as 12GiB; the least recently used one is unloaded");
  add_option(command, "--dry-run", a.dry_run, "print the settings and what each model would take, and end");
  add_option(command, "--json", a.json, "with --dry-run: as JSON");
  add_option(command, "--load-all", a.load_all, "load every model at the start, not at its first request");
  add_device_options(command, a.run);
  add_engine_options(command, a.run);
  add_option(command, "--chat-template", a.run.chat_template, "Jinja file to use in place of the model's own")
      ->check(CLI::ExistingFile);
  add_server_options(command, a);
  add_limit_options(command, a);
}

void resolve(ServeArguments& a) {
  a.serve.max_body_bytes = static_cast<std::size_t>(parse_bytes("--max-body", a.max_body));
  a.serve.header_timeout = milliseconds_of(a.seconds.header);
  a.serve.body_timeout = milliseconds_of(a.seconds.body);
  a.serve.write_timeout = milliseconds_of(a.seconds.write);
  a.serve.ping_interval = milliseconds_of(a.seconds.ping);
  a.serve.drain_timeout = milliseconds_of(a.seconds.drain);
  a.serve.web_page = !a.no_web_page;
  a.serve.api_keys = read_keys(a.api_key_file);
  if (a.serve.api_keys.empty() && !a.insecure && !is_loopback(a.serve.host)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--host {} lets other machines call, and no key is set", a.serve.host),
                fmt::format("set {} or --api-key-file, or say --insecure", kKeyVariable));
  }
}

std::vector<ServedModel> served_models(const ServeArguments& a) {
  std::vector<ServedModel> models;
  for (const std::string& given : a.models.empty() ? std::vector<std::string>{""} : a.models) {
    const std::size_t sign = given.find('=');
    if (sign == 0) throw Error(ErrorCode::invalid_argument, "'" + given + "' names no model", "it is NAME=MODEL");
    const bool named = sign != std::string::npos && sign > 0 && !std::filesystem::exists(given);
    models.push_back(named ? ServedModel{given.substr(0, sign), given.substr(sign + 1)}
                           : ServedModel{name_of(given), given});
  }
  if (!a.served_name.empty()) models.front().name = a.served_name;
  std::set<std::string> names;
  for (const ServedModel& model : models) {
    if (names.insert(model.name).second) continue;
    throw Error(ErrorCode::invalid_argument, "two models are called '" + model.name + "'",
                "name one of them: NAME=" + model.source);
  }
  return models;
}

}  // namespace bittern::cli
