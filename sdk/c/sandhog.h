// For handlers in C, beside the header that `wit-bindgen c` makes of the contract.

#ifndef SANDHOG_H
#define SANDHOG_H

// Declares a kind that this component has a handler of, once for each and outside of functions:
//
//     SANDHOG_KIND("text.count");
//
// It stands in the component's custom section `sandhog:kinds`, so that a plugin's TOML can be held against it before it is
// deployed.
#define SANDHOG_KIND(kind) \
    __asm__(".section \".custom_section.sandhog:kinds\",\"\",@\n.ascii \"" kind "\\n\"\n.text")

#endif
