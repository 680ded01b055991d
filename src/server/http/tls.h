// TLS settings from certificate and key files. Protocol versions below 1.2 are not spoken.
#pragma once

#include <boost/asio/ssl/context.hpp>

#include <memory>

#include "server/serve_options.h"

namespace bittern::server {

/// Null when the options name neither file. Error(invalid_argument) for one without the other, Error(io) for files that
/// cannot be read or do not belong together.
std::shared_ptr<boost::asio::ssl::context> load_tls(const ServeOptions& options);

}  // namespace bittern::server
