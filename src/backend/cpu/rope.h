// Rotary embedding and the store into the KV pool, one token at a time: rotated keys never travel through memory twice.
#pragma once

#include "backend/cpu/kv_pool.h"
#include "base/thread_pool.h"

namespace bittern::cpu {

/// Backend::rope_store.
void rope_store(const RopeStoreArgs& args, const BatchView& batch, CpuKvPool& pool, ThreadPool& threads);

}  // namespace bittern::cpu
