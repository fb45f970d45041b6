//! Nothing of one run is left in the next.

use sandhog_engine::Abort;

use super::bed::{Bed, budget, output};
use super::guests::{Guest, RESULT};

#[tokio::test]
async fn globals_memory_and_tables_are_as_they_were_made() {
    let bed = Bed::new();
    // As many bytes as there are marks of an earlier run: in a global, in the memory that is there from the start, in
    // memory that is grown, and in the size of a table. Then it leaves all of them.
    let body = format!(
        "(local $grown i32)
         (local.set $grown (i32.mul (memory.grow (i32.const 1)) (i32.const 65536)))
         (i32.store (i32.const {}) (i32.add
           (i32.add (global.get $mark) (i32.load8_u (i32.const 5000)))
           (i32.add (table.size $t) (i32.add (i32.load8_u (local.get $grown)) (i32.load8_u (i32.const 60000))))))
         (global.set $mark (i32.const 1))
         (i32.store8 (i32.const 5000) (i32.const 1))
         (i32.store8 (i32.const 60000) (i32.const 1))
         (i32.store8 (local.get $grown) (i32.const 1))
         (drop (table.grow $t (ref.null func) (i32.const 1)))",
        RESULT + 12
    );
    let fields = "(global $mark (mut i32) (i32.const 0)) (table $t 0 10 funcref)";
    let plugin = bed.load(Guest::that(&body).with_fields(fields).text());
    // More often than there are slots that could keep something.
    for _ in 0..50 {
        assert_eq!(output(&bed.start(&plugin, budget(), Abort::new()).await), b"");
    }
}
