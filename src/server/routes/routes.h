// The table of the server's routes. Each file of this folder adds the rows of one API with one function declared here.
#pragma once

#include "server/service.h"

namespace bittern::server {

void add_health_routes(Routes& routes, Service& service);
void add_chat_routes(Routes& routes, Service& service);         // POST /v1/chat/completions
void add_completions_routes(Routes& routes, Service& service);  // POST /v1/completions
void add_embeddings_routes(Routes& routes, Service& service);   // POST /v1/embeddings
void add_models_routes(Routes& routes, Service& service);
void add_generate_routes(Routes& routes, Service& service);
void add_messages_routes(Routes& routes, Service& service);
void add_responses_routes(Routes& routes, Service& service);
void add_tokenize_routes(Routes& routes, Service& service);
void add_ui_routes(Routes& routes, Service& service);  // GET /, unless options say no

/// Every route of `bittern serve`. `service` must outlive them.
Routes all_routes(Service& service);

}  // namespace bittern::server
