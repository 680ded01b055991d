// The kernel table of one instruction set, put together from the files compiled for it.
#include "backend/cpu/kernels/isa.h"
#include "backend/cpu/kernels/kernels.h"

#define BITTERN_STRING2(x) #x
#define BITTERN_STRING(x) BITTERN_STRING2(x)

namespace bittern::cpu {

void BITTERN_ISA_NAME(fill_linear_direct)(LinearTable*);
void BITTERN_ISA_NAME(fill_linear_panel)(LinearTable*);
void BITTERN_ISA_NAME(fill_elements)(ElementTable*);
void BITTERN_ISA_NAME(fill_attention)(AttendTable*);
void BITTERN_ISA_NAME(fill_limits)(LimitTable*);

const KernelTable* BITTERN_ISA_NAME(kernel_table)() {
  static KernelTable table = {BITTERN_STRING(BITTERN_ISA), {}, {}, {}, {}};
  BITTERN_ISA_NAME(fill_linear_direct)(&table.linear);
  BITTERN_ISA_NAME(fill_linear_panel)(&table.linear);
  BITTERN_ISA_NAME(fill_elements)(&table.element);
  BITTERN_ISA_NAME(fill_attention)(&table.attend);
  BITTERN_ISA_NAME(fill_limits)(&table.limit);
  return &table;
}

}  // namespace bittern::cpu
