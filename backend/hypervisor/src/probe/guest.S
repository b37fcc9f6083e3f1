# The probe guest: a boot sector (loaded at 0x7c00) that goes where a boot loader and a kernel go, and then writes 0x2a to
# the port of QEMU's debug exit device. KVM that emulates what the processor can't do (one without unrestricted guests,
# one below another hypervisor) can lack just one of these steps: `iret` in protected mode, for instance.
#
#   as --64 guest.S -o guest.o && objcopy -O binary -j .text guest.o guest.bin
#
# The bytes are in sector.rs, which a test compares with this file.

.code16
.org 0
start:
    # Real mode; into protected mode.
    cli
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl 0x7c00 + gdtr - start
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $0x08, $(0x7c00 + protected - start)
.code32
protected:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $0x7000, %esp
    # A return from an interrupt.
    pushfl
    pushl $0x08
    pushl $(0x7c00 + returned - start)
    iretl
returned:
    # Three tables of pages, from 0x1000 on, map the first two MiB; into long mode.
    cld
    movl $0x1000, %edi
    xorl %eax, %eax
    movl $0x0c00, %ecx
    rep stosl
    movl $0x2003, 0x1000
    movl $0x3003, 0x2000
    movl $0x83, 0x3000
    movl $0x1000, %eax
    movl %eax, %cr3
    movl $0x20, %eax
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    rdmsr
    orw $0x100, %ax
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    ljmpl $0x18, $(0x7c00 + long - start)
.code64
long:
    pushq $0x10
    pushq $0x7000
    pushfq
    pushq $0x18
    pushq $(0x7c00 + done - start)
    iretq
done:
    movb $0x2a, %al
    outb %al, $0xf4
    hlt
    jmp done
.align 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00af9b000000ffff
gdtr:
    .word gdtr - gdt - 1
    .long 0x7c00 + gdt - start
