// OpenSSL's own defaults for ciphers and curves; ours is only what may not be left to them.
#include <utility>

#include "server/http/tls.h"

#include <bittern/error.h>
#include <fmt/core.h>

namespace bittern::server {
namespace {

using boost::asio::ssl::context;

template <class Load>
void load_file(const char* option, const std::string& file, const Load& load) {
  boost::system::error_code ec;
  load(ec);
  if (ec) throw Error(ErrorCode::io, fmt::format("{} {}: {}", option, file, ec.message()), "it must be a PEM file");
}

}  // namespace

std::shared_ptr<context> load_tls(const ServeOptions& options) {
  if (options.tls_certificate.empty() && options.tls_key.empty()) return nullptr;
  if (options.tls_certificate.empty() || options.tls_key.empty()) {
    throw Error(ErrorCode::invalid_argument, "--tls-certificate and --tls-key go together", "give both, or neither");
  }
  auto tls = std::make_shared<context>(context::tls_server);
  tls->set_options(context::default_workarounds | context::no_sslv2 | context::no_sslv3 | context::no_tlsv1 |
                   context::no_tlsv1_1 | context::single_dh_use);
  load_file("--tls-certificate", options.tls_certificate,
            [&](auto& ec) { tls->use_certificate_chain_file(options.tls_certificate, ec); });
  load_file("--tls-key", options.tls_key,
            [&](auto& ec) { tls->use_private_key_file(options.tls_key, context::pem, ec); });
  return tls;
}

}  // namespace bittern::server
